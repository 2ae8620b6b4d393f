"""Answers of a form by a running fleet: whole, streamed, many at once; what cannot be had is refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import httpx
import jsonschema
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


def _of(properties: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        **more,
    }


WORD = {"type": "string", "pattern": "^[a-z]{1,8}$"}
PLACE = _of({"x": {"type": "boolean"}, "y": {"type": "integer", "minimum": -9, "maximum": 99}})
SCHEMAS: Sequence[dict[str, Any]] = (
    _of({"kind": {"enum": ["hymn", "ode"]}, "lines": {"type": "integer", "minimum": 0, "maximum": 300}}),
    _of({"word": WORD, "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3}}),
    _of({"at": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/place"}]}}, **{"$defs": {"place": PLACE}}),
    {"type": "array", "items": WORD, "minItems": 1, "maxItems": 4},
    {"enum": ["yes", "no", 7, None]},
)
LONGEST = 64  # tokens, each a byte at least: the longest answer, four words in a list, has 45 bytes
SAMPLING: Sequence[dict[str, Any]] = ({"temperature": 0}, {}, {"top_p": 0.9, "top_k": 40}, {"temperature": 1.5})
NEIGHBOURS: Sequence[dict[str, Any]] = (
    {"temperature": 0},
    {"seed": 11},
    {"seed": 12, "temperature": 1.3, "top_p": 0.8, "frequency_penalty": 0.5},
)
COUNTED = ("castalia_forms_compiled_total", "castalia_forms_found_total", "castalia_form_seconds_total")


def say(client: httpx.Client, **fields: Any) -> tuple[str, str]:
    """A chat's text, and how it ended."""
    body = {"model": MODEL, "messages": QUESTION, "max_tokens": LONGEST, **fields}
    choice = client.post("/v1/chat/completions", json=body).raise_for_status().json()["choices"][0]
    return choice["message"]["content"], choice["finish_reason"]


def test_two_hundred_answers_at_sixteen_at_once_validate_and_their_neighbours_stay_as_they_are(
    local_fleet: LocalFleet,
) -> None:
    is_over = threading.Event()

    def formed(seed: int) -> tuple[str, str]:
        form = {"name": "form", "schema": SCHEMAS[seed % len(SCHEMAS)]}
        fields = {"response_format": {"type": "json_schema", "json_schema": form}, **SAMPLING[seed % len(SAMPLING)]}
        return say(client, seed=seed, **fields)

    def beside(fields: dict[str, Any]) -> list[tuple[str, str]]:
        """A neighbour's answers, one after the other for as long as there are answers of forms."""
        said: list[tuple[str, str]] = []
        while not is_over.is_set():
            said.append(say(client, ignore_eos=True, **fields))
        return said

    with local_fleet.http() as client:
        alone = [say(client, ignore_eos=True, **fields) for fields in NEIGHBOURS]
        before = local_fleet.metrics(*COUNTED, model=MODEL)
        with ThreadPoolExecutor(len(NEIGHBOURS)) as around, ThreadPoolExecutor(16) as sixteen:
            neighbours = [around.submit(beside, fields) for fields in NEIGHBOURS]
            try:
                answers = list(sixteen.map(formed, range(200)))
            finally:
                is_over.set()
        after = local_fleet.metrics(*COUNTED, model=MODEL)
    for seed, (text, ended) in enumerate(answers):
        assert ended == "stop", text
        jsonschema.validate(json.loads(text), SCHEMAS[seed % len(SCHEMAS)])
    assert len({text for text, _ in answers}) > 50
    for expected, neighbour in zip(alone, neighbours, strict=True):
        said = neighbour.result()
        assert len(said) > 1
        assert set(said) == {expected}
    compiled, found, seconds = (now - then for now, then in zip(after, before, strict=True))
    assert compiled + found == 200
    assert compiled >= len(SCHEMAS)
    assert seconds > 0


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
