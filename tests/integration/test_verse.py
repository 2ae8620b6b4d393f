"""Built-in models of verse, asked by the official client: whole, streamed, several, by seed, stopped, scored."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types import Completion

from tests.integration.conftest import BUILTIN, LocalFleet

*OTHERS, LAST = [
    model.id
    for service in BUILTIN
    if service.family == "recurrent"
    for model in service.models
    if "completion" in model.does
]
MODELS = [LAST, *(pytest.param(other, marks=pytest.mark.slow) for other in OTHERS)]
OPENING = "The evening "
VERSE = "The curfew tolls the knell of parting day,\n"


@pytest.fixture(scope="module")
def client(local_fleet: LocalFleet) -> Iterator[openai.OpenAI]:
    with local_fleet.openai() as client:
        yield client.with_options(timeout=120)  # the first request wakes a model


def completion(client: openai.OpenAI, model: str, prompt: Any = OPENING, **options: Any) -> Completion:
    return client.completions.create(model=model, prompt=prompt, **{"max_tokens": 120, "temperature": 0.7} | options)


@pytest.mark.parametrize("model", MODELS)
def test_verse_streams_to_what_it_is_as_a_whole(client: openai.OpenAI, model: str) -> None:
    whole = completion(client, model, seed=3)
    pieces = list(completion(client, model, seed=3, stream=True))  # pyright: ignore[reportArgumentType]
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text
    assert whole.usage is not None
    assert whole.usage.completion_tokens == len(whole.choices[0].text.encode()) == 120
    assert whole.choices[0].finish_reason == "length"


@pytest.mark.parametrize("model", MODELS)
def test_each_choice_has_its_own_draws_and_a_seed_gives_them_again(client: openai.OpenAI, model: str) -> None:
    first = [choice.text for choice in completion(client, model, n=4, seed=11).choices]
    again = [choice.text for choice in completion(client, model, [OPENING, "O "], n=4, seed=11).choices]
    assert len(set(first)) == 4
    assert again[:4] == first


@pytest.mark.parametrize("model", MODELS)
def test_a_line_feed_stops_a_line(client: openai.OpenAI, model: str) -> None:
    (choice,) = completion(client, model, stop="\n", seed=1).choices
    assert choice.finish_reason == "stop"
    assert 0 < len(choice.text) < 100
    assert "\n" not in choice.text


@pytest.mark.parametrize("model", MODELS)
def test_verse_begins_of_itself(client: openai.OpenAI, model: str) -> None:
    (choice,) = completion(client, model, "", seed=2).choices
    assert choice.text[0].isupper() or choice.text[0] in "\"'(-"


@pytest.mark.parametrize("model", MODELS)
def test_a_given_line_is_scored_and_likelier_than_its_letters_shuffled(client: openai.OpenAI, model: str) -> None:
    def nats(text: str) -> float:
        (choice,) = completion(client, model, text, max_tokens=1, echo=True, logprobs=2).choices
        assert choice.text.startswith(text)
        assert choice.logprobs is not None
        assert choice.logprobs.tokens is not None
        assert choice.logprobs.token_logprobs is not None
        assert "".join(choice.logprobs.tokens[1:]).startswith(text)  # the first is the mark of a beginning
        told = choice.logprobs.token_logprobs[1 : 1 + len(text)]
        return -math.fsum(value for value in told if value is not None) / len(text)

    assert nats(VERSE) < 2.5
    assert nats(VERSE) < nats("".join(sorted(VERSE))) - 0.5
