"""The built-in model of stories, asked by the official client: from a beginning, from none, whole and streamed."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.integration.conftest import LocalFleet

MODEL = "story-gpt"


@pytest.fixture(scope="module")
def client(local_fleet: LocalFleet) -> Iterator[openai.OpenAI]:
    with local_fleet.openai() as client:
        yield client.with_options(timeout=120)  # the first request wakes the model


def test_a_story_streams_to_what_it_is_as_a_whole_and_a_seed_tells_it_again(client: openai.OpenAI) -> None:
    def told(**options: int) -> str:
        pieces = client.completions.create(
            model=MODEL, prompt="Mr. Darcy", max_tokens=80, stream=True, extra_body=options
        )
        return "".join(piece.choices[0].text for piece in pieces if piece.choices)

    whole = client.completions.create(model=MODEL, prompt="Mr. Darcy", max_tokens=80, seed=4)
    assert told(seed=4) == whole.choices[0].text != told(seed=5)
    assert whole.usage is not None
    assert (whole.choices[0].finish_reason, whole.usage.completion_tokens) == ("length", 80)


def test_an_empty_prompt_begins_a_chapter(client: openai.OpenAI) -> None:
    choices = client.completions.create(model=MODEL, prompt="", max_tokens=60, n=4, seed=2).choices
    assert len({choice.text for choice in choices}) == 4
    assert all(choice.text[0].isupper() or choice.text[0] in "\"'“(" for choice in choices), choices
