"""Masks: what fills them is as by transformers' own forward; the answer's text; and what may be asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM

from services.families.transformer.encoder.loading import Encoder
from services.families.transformer.encoder.params import Filled
from shared.config.transformer import MaskedModel
from shared.errors import ContextTooLong, InvalidRequest
from shared.events import TextDelta
from tests.shape_checkpoints import CONTEXT, word_tokenizer
from tests.unit.transformer.test_encoders import completion, load_masked, reference_ids, run

Shapes = Callable[..., Path]


@pytest.fixture(scope="module")
def bert(shapes: Shapes) -> Any:
    return load_masked(shapes("bert"))


def test_no_request_costs_more_than_its_bound(bert: Any) -> None:
    config = MaskedModel(id="tiny", source="file://tiny", kind="masked")
    body = completion(["[MASK] " * 5, "The [MASK]"], n=3)
    assert config.cost_bound(body, bert.limits) >= sum(row.cost for row in bert.tasks["completion"].prepare(body))


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_masks_are_filled_as_by_a_plain_forward(shapes: Shapes, name: str) -> None:
    loaded = load_masked(shapes(name))
    mask = loaded.tasks["completion"].reader.text
    body = completion([f"The capital of {mask} is Paris, {mask}.", f"{mask} spring"], logprobs=3)
    model = AutoModelForMaskedLM.from_pretrained(shapes(name)).eval()
    chunks: list[Filled] = run(loaded, "completion", body)
    for chunk in chunks:
        ids = list(chunk.params.ids)
        with torch.no_grad():
            plain = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        assert len(chunk.params.places) == str(chunk.params.text).count(mask)
        for place, token, raw in zip(chunk.params.places, chunk.tokens, chunk.logprobs or (), strict=True):
            assert ids[place] == loaded.tasks["completion"].reader.token
            best = plain[place].topk(3)
            assert token == best.indices[0]
            assert [each for each, _ in raw.top] == best.indices.tolist()
            assert np.allclose([value for _, value in raw.top], best.values, atol=1e-4)


def filled(bert: Any, prompt: Any, words: list[str], **fields: Any) -> TextDelta:
    """The answer, if these words are what the model would choose."""
    vocabulary = word_tokenizer().get_vocab()
    (row,) = bert.tasks["completion"].prepare(completion(prompt, **fields))
    return bert.tasks["completion"].encode(Filled(row, tuple(vocabulary[word] for word in words), None))


@pytest.mark.parametrize(
    ("prompt", "words", "text"),
    [
        ("The Capital of [MASK], no?", ["paris"], "The Capital of paris, no?"),
        ("[MASK] und [MASK]", ["and", "water"], "and und water"),
        ("capit [MASK]", ["##al"], "capital"),
        ("[MASK]", ["##al"], "al"),
        ("[CLS] [MASK] [SEP]", ["is"], "[CLS] is [SEP]"),
    ],
)
def test_the_answer_is_the_text_as_it_was_given_with_its_masks_filled(
    bert: Any, prompt: str, words: list[str], text: str
) -> None:
    answer = filled(bert, prompt, words)
    assert answer.text == text
    assert answer.completion_tokens == len(words)
    assert answer.prompt_tokens == len(bert.tasks["completion"].prepare(completion(prompt))[0].ids)


def test_a_mask_may_come_as_an_id(bert: Any) -> None:
    ids = reference_ids("The [MASK] is paris")
    assert filled(bert, ids, ["capital"]).text == "the capital is paris"


def test_no_special_token_but_the_mask_is_read_from_text(bert: Any) -> None:
    (row,) = bert.tasks["completion"].prepare(completion("[CLS] [PAD] [MASK] [SEP]"))
    specials = bert.tasks["completion"].generation.vocabulary.special_ids
    mask = bert.tasks["completion"].reader.token
    assert [i for i in row.ids[1:-1] if i in specials] == [mask]


def test_choices_are_drawn_by_seed_and_are_the_likeliest_without_a_temperature(bert: Any) -> None:
    def tokens(**fields: Any) -> list[tuple[int, ...]]:
        return [chunk.tokens for chunk in run(bert, "completion", completion("[MASK] [MASK] [MASK]", n=6, **fields))]

    assert len(set(tokens())) == 1
    drawn = tokens(temperature=1.5, seed=4)
    assert len(set(drawn)) > 1
    assert drawn == tokens(temperature=1.5, seed=4)
    assert drawn != tokens(temperature=1.5, seed=5)
    assert {token for row in tokens(logit_bias={"9": 100.0}) for token in row} == {9}


def test_rows_of_one_text_share_a_pass(bert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    known = Encoder.run
    monkeypatch.setattr(Encoder, "run", lambda self, texts: read.append(len(texts)) or known(self, texts))
    run(bert, "completion", completion(["The [MASK]", "A [MASK]"], n=5))
    assert read == [2]


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"prompt": "The spring"}, "prompt", r"needs at least one \[MASK\]"),
        ({"prompt": [[5, 6]]}, "prompt", "at least one"),
        ({"prompt": "[MASK] [MASK]", "max_tokens": 1}, "max_tokens", "2 masks, a token each; got max_tokens 1"),
        ({"echo": True}, "echo", "fills masks in"),
        ({"stop": "x"}, "stop", "fills masks in"),
        ({"min_tokens": 2}, "min_tokens", "fills masks in"),
        ({"presence_penalty": 1.0}, "presence_penalty", "fills masks in"),
        ({"structured_outputs": {"choice": ["a"]}}, "structured_outputs", "fills masks in"),
        ({"prompt": "[MASK] " * CONTEXT}, "prompt", f"{CONTEXT} tokens; got {CONTEXT + 2}"),
    ],
)
def test_what_it_cannot_do_is_refused(bert: Any, fields: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        bert.tasks["completion"].prepare(completion(**{"prompt": "The [MASK]", **fields}))
    assert caught.value.param == param
    if param == "prompt" and "tokens" in words:
        assert isinstance(caught.value, ContextTooLong)
