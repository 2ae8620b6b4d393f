"""Between rows and vLLM: what a row asks for in vLLM's words, and what is made of what vLLM says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import pytest

from services.families.transformer.vllm.client import Made, Piece
from services.families.transformer.vllm.translate import Position, form_fields, piece_of, sampling_fields
from services.nn.text.params import GenerateParams, RawLogprob, SamplingOptions
from shared.schemas.forms import AnswerForm


@dataclass
class Chance:
    """vLLM's `Logprob`."""

    logprob: float
    rank: int | None


@dataclass
class Completion:
    """Its `CompletionOutput`."""

    token_ids: Sequence[int]
    logprobs: Sequence[Position] | None = None
    finish_reason: str | None = None


@dataclass
class Answer:
    """Its `RequestOutput`."""

    outputs: Sequence[Completion]
    prompt_logprobs: Sequence[Position | None] | None = None
    num_cached_tokens: int | None = None


def row(**options: Any) -> GenerateParams:
    given = {"task": "completion", "prompt": (5, 6, 7), "max_new_tokens": 9, "seed": 3, **options}
    return GenerateParams(**given)


def test_a_row_asks_for_what_its_request_says() -> None:
    options = SamplingOptions(0.7, 40, 0.9, 0.05, 1.2, 0.5, -0.5, {8: -100.0})
    asked = sampling_fields(row(sampling=options, min_tokens=2), eos=(2, 1))
    assert asked == {
        "max_tokens": 9,
        "min_tokens": 2,
        "temperature": 0.7,
        "top_k": 40,
        "top_p": 0.9,
        "min_p": 0.05,
        "repetition_penalty": 1.2,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "logit_bias": {8: -100.0},
        "seed": 3,
        "stop_token_ids": [2, 1],
        "ignore_eos": True,
        "logprobs": None,
        "prompt_logprobs": None,
        "detokenize": False,
    }


def test_texts_that_stop_an_answer_are_no_business_of_vllms() -> None:
    assert not {"stop", "n"} & sampling_fields(row(stops=("x",)), eos=()).keys()


def test_a_greedy_row_draws_nothing_and_a_faint_temperature_is_what_vllm_makes_of_it() -> None:
    greedy = sampling_fields(row(sampling=SamplingOptions(temperature=0)), eos=())
    assert (greedy["temperature"], greedy["seed"]) == (0.0, None)
    assert sampling_fields(row(sampling=SamplingOptions(temperature=1e-4)), eos=())["temperature"] == 0.01


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64 - 1])
def test_every_seed_is_one_to_vllm(seed: int) -> None:
    assert 0 <= sampling_fields(row(seed=seed), eos=())["seed"] < 2**63


def test_a_prompt_that_is_only_scored_has_one_token_made_that_nobody_sees() -> None:
    asked = sampling_fields(row(max_new_tokens=0, echo="abc", logprobs=1), eos=())
    assert (asked["max_tokens"], asked["min_tokens"], asked["prompt_logprobs"]) == (1, 0, 1)
    assert sampling_fields(row(echo="abc"), eos=())["prompt_logprobs"] is None
    assert sampling_fields(row(logprobs=1), eos=())["prompt_logprobs"] is None


def test_who_ignores_the_end_has_none() -> None:
    assert sampling_fields(row(ignore_eos=True), eos=(2,))["stop_token_ids"] == []


def test_forms_are_given_as_our_own_decoders_follow_them() -> None:
    (schema,) = form_fields(AnswerForm("json", '{"type":"object"}', "response_format")).values()
    rule, _, said = schema.partition(" %json ")
    options = {"whitespace_flexible": False, "lenient": False, "item_separator": ",", "key_separator": ":"}
    assert (rule, json.loads(said)) == ("start:", {"type": "object", "x-guidance": options})
    assert form_fields(AnswerForm("lark", "start: /a+/", "tools")) == {"grammar": "start: /a+/"}
    assert form_fields(AnswerForm("choice", ("a", 'b"'), "p")) == {"grammar": 'start: "a" | "b\\""'}
    assert form_fields(AnswerForm("regex", r"\d+", "p"))["grammar"].startswith("start: /")


def test_tokens_come_without_logprobs_where_none_were_asked_for() -> None:
    said = Answer([Completion([10, 11])], num_cached_tokens=2)
    assert piece_of(said, row()) == Piece((Made(10), Made(11)), cached=2)


def test_the_chosen_token_stands_beside_the_likeliest_ones_in_their_order() -> None:
    place = {9: Chance(-4.0, 7), 1: Chance(-0.5, 1), 3: Chance(-1.5, 3), 2: Chance(-1.0, 2)}
    (made,) = piece_of(Answer([Completion([9], [place])]), row(logprobs=2)).made
    assert made.logprob == RawLogprob(9, -4.0, ((1, -0.5), (2, -1.0)))
    (made,) = piece_of(Answer([Completion([1], [place])]), row(logprobs=0)).made
    assert made.logprob == RawLogprob(1, -0.5, ())


def test_the_first_token_of_a_scored_prompt_follows_nothing() -> None:
    places = [None, {6: Chance(-2.0, 5), 1: Chance(-0.1, 1)}, {7: Chance(-0.3, 1)}]
    said = Answer([Completion([8], [{8: Chance(-1.0, 1)}])], prompt_logprobs=places)
    first, second, third = piece_of(said, row(echo="abc", logprobs=1)).prompt_logprobs
    assert (first.token, first.top) == (5, ())
    assert isnan(first.logprob)
    assert (second, third) == (RawLogprob(6, -2.0, ((1, -0.1),)), RawLogprob(7, -0.3, ((7, -0.3),)))


@pytest.mark.parametrize(
    ("reason", "failed"), [("stop", None), ("length", None), ("error", "error"), ("abort", "abort")]
)
def test_an_end_that_is_no_answer_is_a_failure(reason: str, failed: str | None) -> None:
    assert piece_of(Answer([Completion([], finish_reason=reason)]), row()).failed == failed
