"""Answers of a form: they have it, they end, and what stands beside them is as without them, to the bit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from services.engine.contract import FinishReason
from services.nn.text.params import GenerateParams
from shared.errors import InvalidRequest
from shared.schemas.text import ChatRequest, CompletionRequest
from tests.unit.transformer.driver import Answer, Loaded, load_folder, load_pair

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
        "home": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/home"}]},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
    "$defs": {
        "home": {"type": "object", "properties": {"x": {"type": "boolean"}}, "additionalProperties": False},
    },
}


def completion(**fields: Any) -> CompletionRequest:
    return CompletionRequest.model_validate({"model": "tiny", "prompt": "The spring", "max_tokens": 160, **fields})


def formed(form: dict[str, Any], **fields: Any) -> CompletionRequest:
    return completion(structured_outputs=form, **fields)


def rows(loaded: Loaded, *requests: CompletionRequest) -> list[GenerateParams]:
    return [row for request in requests for row in loaded.tasks["completion"].prepare(request)]


def answers(loaded: Loaded, *requests: CompletionRequest, stagger: int = 0) -> list[Answer]:
    return loaded.run(rows(loaded, *requests), stagger=stagger)


def seen(answer: Answer) -> Any:
    """All that a client gets."""
    return answer.tokens, answer.deltas, answer.finish


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_two_hundred_answers_at_sixteen_at_once_all_have_their_form(
    folders: Callable[..., Path], architecture: str
) -> None:
    loaded = load_folder(folders(architecture))
    options = [{"temperature": 0.0}, {}, {"top_p": 0.9, "top_k": 40}, {"min_p": 0.05, "temperature": 1.5}]
    asked = [formed({"json": PERSON}, seed=i, n=5, **options[i % 4]) for i in range(20)]
    params = rows(loaded, *asked)
    made = [answer for at in range(0, 100, 16) for answer in loaded.run(params[at : at + 16])]
    assert len(made) == 100  # of each of two
    for answer in made:
        assert answer.finish is FinishReason.STOP
        jsonschema.validate(json.loads(answer.text), PERSON)
    assert len({answer.text for answer in made}) > 50


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ({"regex": r"[a-f]{3,9}(-\d+)?x"}, r"[a-f]{3,9}(-\d+)?x"),
        ({"choice": ["yes", "no, never", "ü🙂"]}, "yes|no, never|ü🙂"),
        ({"json": {"enum": [1, "two", None]}}, r'1|"two"|null'),
    ],
    ids=str,
)
def test_expressions_and_choices_are_matched_whole(llama: Loaded, form: dict[str, Any], pattern: str) -> None:
    for answer in answers(llama, formed(form, n=12, seed=3)):
        assert re.fullmatch(pattern, answer.text), answer.text
        assert answer.finish is FinishReason.STOP


def test_a_json_object_is_one_in_chat_and_without_spaces_between(llama: Loaded) -> None:
    request = ChatRequest.model_validate(
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": "hi"}],
            "response_format": {"type": "json_object"},
            "n": 16,
            "seed": 1,
        }
    )
    made = [answer for answer in llama.run(llama.tasks["chat"].prepare(request)) if answer.finish is FinishReason.STOP]
    assert made
    for answer in made:
        value = json.loads(answer.text)
        assert isinstance(value, dict)
        assert answer.text[0] + answer.text[-1] == "{}"


def test_neighbours_get_the_same_bits_beside_answers_of_a_form(llama: Loaded) -> None:
    free = [
        completion(seed=5, max_tokens=30, ignore_eos=True, logprobs=3),
        completion(prompt="A model reads", temperature=0.0, max_tokens=30, ignore_eos=True),
        completion(prompt="and", seed=8, max_tokens=30, ignore_eos=True, frequency_penalty=0.5, top_p=0.8),
    ]
    beside = [completion(prompt="xy", seed=i, max_tokens=30, ignore_eos=True) for i in range(3)]
    held = [formed({"regex": "[a-z ]{200}"}, prompt="xy", seed=i, max_tokens=30) for i in range(3)]
    with_free, with_held = answers(llama, *free, *beside), answers(llama, *free, *held)
    assert list(map(seen, with_free[:3])) == list(map(seen, with_held[:3]))
    assert with_free[3].text != with_held[3].text


def test_a_seed_gives_an_answer_again_alone_and_in_any_company(llama: Loaded) -> None:
    asked = [formed({"json": PERSON}, seed=i, logprobs=2) for i in range(4)]
    together = answers(llama, *asked)
    staggered = answers(llama, *asked, completion(prompt="b c", seed=1), stagger=3)
    for request, one, other in zip(asked, together, staggered, strict=False):
        (alone,) = answers(llama, request)
        assert alone.tokens == one.tokens == other.tokens
        assert alone.text == one.text == other.text


def test_a_step_that_fails_and_is_done_again_changes_no_answer(llama: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    request = formed({"json": PERSON}, seed=2)
    (expected,) = answers(llama, request)
    commit, calls = llama.sampler._commit, iter(range(10**6))

    def fails_often(move: Any) -> None:
        if next(calls) % 2:
            raise RuntimeError("injected")
        commit(move)

    monkeypatch.setattr(llama.sampler, "_commit", fails_often)
    step = llama.sampler.step

    def again(states: Any) -> Any:
        try:
            return step(states)
        except RuntimeError:
            return step(states)

    monkeypatch.setattr(llama.sampler, "step", again)
    (got,) = answers(llama, request)
    assert (got.tokens, got.text) == (expected.tokens, expected.text)


def test_a_row_whose_grammar_fails_is_the_only_one_that_does(llama: Loaded) -> None:
    bad, good = rows(llama, formed({"json": PERSON}, seed=1), formed({"json": PERSON}, seed=2))
    states = [llama.sampler.start(row) for row in (bad, good)]
    states[0].follower.completes(5, 0)  # a token that it does not allow
    assert not states[0].follower.completes(5, 0)
    states[0].follower._read = 0
    outputs = llama.sampler.step(states)
    assert [output.finish_reason for output in outputs] == [FinishReason.ERROR, None]
    for state in states:
        llama.sampler.release(state)


def test_an_answer_that_is_cut_says_so(llama: Loaded) -> None:
    (answer,) = answers(llama, formed({"regex": "[a-z]{300}"}, max_tokens=7))
    assert (answer.finish, len(answer.tokens)) == (FinishReason.LENGTH, 7)
    assert re.fullmatch("[a-z]+", answer.text)


def test_stops_biases_and_fewest_tokens_hold_within_the_form(llama: Loaded) -> None:
    (a,) = llama.tasks["completion"].generation.vocabulary.encode("a")
    (stopped,) = answers(llama, formed({"regex": "x{3}stop[a-z]{50}"}, stop="stop"))
    assert (stopped.text, stopped.finish) == ("xxx", FinishReason.STOP)
    (biased,) = answers(llama, formed({"regex": "[abc]{1,8}"}, logit_bias={str(a): 100}, min_tokens=8))
    assert biased.text == "aaaaaaaa"
    (whole,) = answers(llama, formed({"choice": ["yes"]}, min_tokens=50))
    assert (whole.text, whole.finish) == ("yes", FinishReason.STOP)
    penalised = answers(llama, formed({"json": PERSON}, n=4, repetition_penalty=1.3, presence_penalty=1.0))
    assert all(json.loads(answer.text) for answer in penalised)


def test_log_probabilities_are_the_models_own_before_the_form(llama: Loaded) -> None:
    (free,) = answers(llama, completion(max_tokens=1, logprobs=5, temperature=0.0, ignore_eos=True))
    (held,) = answers(llama, formed({"regex": "[0-9]{5}"}, max_tokens=1, logprobs=5, temperature=0.0))
    assert held.logprobs[0].top == free.logprobs[0].top
    assert held.logprobs[0].token not in [entry.token for entry in free.logprobs[0].top]


def test_a_shared_prefix_and_an_echo_change_nothing(llama: Loaded) -> None:
    prompt = "The spring on Parnassus gives water to whoever climbs up to it, and the poets drank and sang. " * 2
    request = formed({"json": PERSON}, prompt=prompt, seed=4, echo=True)
    (first,), (second,) = answers(llama, request), answers(llama, request)
    assert second.cached > 0
    assert first.text == second.text
    jsonschema.validate(json.loads(first.text.removeprefix(prompt)), PERSON)


def test_a_form_that_cannot_be_had_is_refused_and_names_its_field(llama: Loaded) -> None:
    with pytest.raises(InvalidRequest, match="regex parse error") as caught:
        rows(llama, formed({"regex": "("}))
    assert (caught.value.param, caught.value.status) == ("structured_outputs.regex", 400)


def test_an_encoder_decoder_refuses_forms(shapes: Callable[..., Path]) -> None:
    with pytest.raises(InvalidRequest, match="cannot be held to a form") as caught:
        load_pair(shapes("t5")).tasks["completion"].prepare(formed({"choice": ["a"]}))
    assert caught.value.param == "structured_outputs.choice"
