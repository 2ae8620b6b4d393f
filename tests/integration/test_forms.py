"""Answers of a form by a running fleet: whole and streamed, by the official client; what cannot be had is refused."""

from __future__ import annotations

import json
from typing import Any, Literal

import openai
import pydantic
import pytest

from tests.integration.conftest import LocalFleet

QUESTION: Any = [{"role": "user", "content": "Who sings on Parnassus?"}]
MODEL = "llama"


class Song(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    kind: Literal["hymn", "ode"]
    lines: int = pydantic.Field(ge=0, le=200)
    sung: bool


FORMAT: Any = {
    "type": "json_schema",
    "json_schema": {"name": "song", "schema": Song.model_json_schema(), "strict": True},
}


def test_a_schema_holds_whole_and_streamed_and_a_seed_gives_it_again(local_fleet: LocalFleet) -> None:
    asked: Any = {"model": MODEL, "messages": QUESTION, "response_format": FORMAT, "seed": 3, "max_tokens": 100}
    with local_fleet.openai() as client:
        whole = client.chat.completions.create(**asked).choices[0]
        pieces = list(client.chat.completions.create(stream=True, **asked))
    streamed = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert streamed == whole.message.content
    assert pieces[-1].choices[0].finish_reason == whole.finish_reason == "stop"
    assert Song.model_validate_json(streamed)


def test_the_client_parses_answers_of_a_class(local_fleet: LocalFleet) -> None:
    with local_fleet.openai() as client:
        answer = client.chat.completions.parse(model=MODEL, messages=QUESTION, response_format=Song, n=4)
    assert all(isinstance(choice.message.parsed, Song) for choice in answer.choices)


def test_completions_keep_to_choices_and_schemas(local_fleet: LocalFleet) -> None:
    forms: list[dict[str, Any]] = [{"choice": ["yes", "no"]}, {"json": {"enum": ["yes", "no"]}}]
    with local_fleet.openai() as client:
        chosen, quoted = (
            client.completions.create(model=MODEL, prompt="a", n=4, extra_body={"structured_outputs": form}).choices
            for form in forms
        )
    assert {choice.text for choice in chosen} <= {"yes", "no"}
    assert {json.loads(choice.text) for choice in quoted} <= {"yes", "no"}


def test_a_form_that_cannot_be_had_is_refused_while_others_are_answered(local_fleet: LocalFleet) -> None:
    costly = {"structured_outputs": {"json": {"type": "integer", "multipleOf": 99_999_989}}}
    with local_fleet.openai() as client:
        stream = client.chat.completions.create(
            model=MODEL, messages=QUESTION, max_tokens=2000, stream=True, extra_body={"ignore_eos": True}
        )
        with pytest.raises(openai.BadRequestError, match="cannot have this form") as refused:
            client.completions.create(model=MODEL, prompt="a", extra_body=costly)
        assert list(stream)[-1].choices[0].finish_reason == "length"
    assert refused.value.param == "structured_outputs.json"
