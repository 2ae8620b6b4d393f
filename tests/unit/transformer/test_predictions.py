"""What a client expects an answer to be: fewer steps, and the answers that there are without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.nn.text.params import GenerateParams, SamplingOptions
from shared.errors import ContextTooLong
from shared.schemas.text import ChatRequest
from tests.unit.transformer.driver import GREEDY, load_folder, random_prompts
from tests.unit.transformer.test_speculation import Stepped, guessing


def changed(tokens: Sequence[int], change: str) -> tuple[int, ...]:
    made = {"none": tokens, "left out": [*tokens[:9], *tokens[12:]], "turned round": tokens[::-1]}
    return tuple(made[change])


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_answers_are_those_without_what_was_expected(folders: Callable[..., Path], architecture: str) -> None:
    plain = load_folder(folders(architecture), guess_tokens=0)
    prompts = [[4], *random_prompts(3, longest=60, seed=3)]
    samplings = [GREEDY, SamplingOptions(temperature=0.4), SamplingOptions(temperature=1.2, top_k=3), GREEDY]
    rows = [
        plain.row(prompt, 40, sampling=sampling, seed=i, ignore_eos=True)
        for i, (prompt, sampling) in enumerate(zip(prompts, samplings, strict=True))
    ]
    answers = plain.run(rows)
    guessed = guessing(folders(architecture))
    for change in ("none", "left out", "turned round"):
        expecting = [
            replace(row, expected=changed(answer.tokens, change)) for row, answer in zip(rows, answers, strict=True)
        ]
        for answer, without in zip(guessed.run(expecting), answers, strict=True):
            assert (answer.tokens, answer.text, answer.finish) == (without.tokens, without.text, without.finish)


def test_a_right_expectation_saves_steps_from_the_first_token_on(
    folders: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = guessing(folders("llama"))
    row = loaded.row(random_prompts(1, longest=60, seed=5)[0], 60, sampling=GREEDY, ignore_eos=True)
    (answer,) = loaded.run([row])
    stepped = Stepped(loaded, monkeypatch)
    (again,) = loaded.run([replace(row, expected=tuple(answer.tokens))])
    assert again.tokens == answer.tokens
    widths = [width for width in stepped.widths if width]
    assert widths[:2] == [1, 7], "the prompt's token, and then one and six guesses"
    assert len(widths) < 15


@pytest.mark.parametrize("engine", [{}, {"guess_tokens": 0}])
def test_a_chats_prediction_is_expected_and_bounded_by_the_context(
    folders: Callable[..., Path], engine: dict[str, Any]
) -> None:
    loaded = load_folder(folders("llama"), **engine)
    task = loaded.tasks["chat"]

    def prepared(content: object) -> list[GenerateParams]:
        said = {"messages": [{"role": "user", "content": "hi"}], "prediction": {"type": "content", "content": content}}
        return task.prepare(ChatRequest.model_validate({"model": "tiny", "n": 2, **said}))

    tokens = tuple(task.generation.vocabulary.encode("The spring <|im_end|>"))
    parts = [{"type": "text", "text": "The spring "}, {"type": "text", "text": "<|im_end|>"}]
    assert [row.expected for row in [*prepared("The spring <|im_end|>"), *prepared(parts)]] == [tokens] * 4
    assert not {1, 2} & set(tokens), "a client's text never becomes a special token"
    assert prepared("")[0].expected == ()
    for much in ("word " * 300, "word " * 30_000):
        with pytest.raises(ContextTooLong, match="256 tokens; got") as refused:
            prepared(much)
        assert refused.value.param == "prediction"
