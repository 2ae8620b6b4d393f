"""`/v1/responses` by the official client, with strict response validation, over a real socket."""

from __future__ import annotations

from typing import Any

import openai
import pydantic
import pytest

from services.gateway.dispatcher import ReplicaLost
from shared.events import Finished, RowEvent
from tests.unit.gateway.fakes import ACCEPTED, HELLO, MODEL, STOPPED, Gateway, play, text

WHOLE = "".join(HELLO)
LOGPROBS: Any = ["message.output_text.logprobs"]


async def test_strict_validation_accepts_a_response(client: openai.AsyncOpenAI) -> None:
    answer = await client.responses.create(
        model=MODEL, input="hi", instructions="Be brief.", metadata={"a": "b"}, include=LOGPROBS, top_logprobs=2
    )
    assert answer.output_text == WHOLE
    assert (answer.status, answer.instructions, answer.metadata) == ("completed", "Be brief.", {"a": "b"})
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (5, 4, 9)
    assert answer.id.startswith("resp_")


async def test_strict_validation_accepts_every_event_of_a_stream(client: openai.AsyncOpenAI) -> None:
    stream = await client.responses.create(model=MODEL, input="hi", stream=True, include=LOGPROBS, top_logprobs=2)
    events = [event async for event in stream]
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * len(HELLO),
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == WHOLE
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == WHOLE


async def test_the_clients_own_stream_has_the_same_answer_in_the_end(client: openai.AsyncOpenAI) -> None:
    async with client.responses.stream(model=MODEL, input="hi") as stream:
        snapshots = [event.snapshot async for event in stream if event.type == "response.output_text.delta"]
        final = await stream.get_final_response()
    assert snapshots[-1] == final.output_text == WHOLE


class Person(pydantic.BaseModel):
    name: str
    age: int


PERSON = play(ACCEPTED, text('{"name":"Ann",', '"age":7}'), STOPPED)


async def test_the_client_parses_an_answer_of_a_class(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    gateway.dispatcher.scripts += [PERSON, PERSON]
    answer = await client.responses.parse(model=MODEL, input="hi", text_format=Person)
    assert answer.output_parsed == Person(name="Ann", age=7)
    async with client.responses.stream(model=MODEL, input="hi", text_format=Person) as stream:
        assert (await stream.get_final_response()).output_parsed == Person(name="Ann", age=7)
    form = gateway.dispatcher.calls[0][1].body.form
    assert form.kind == "json"
    assert '"required":["name","age"]' in form.text


async def test_an_answer_goes_back_as_input(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    gateway.dispatcher.scripts.append(PERSON)
    parsed = await client.responses.parse(model=MODEL, input="hi", text_format=Person)
    plain = await client.responses.create(model=MODEL, input="hi", include=LOGPROBS)
    items: Any = [
        {"role": "user", "content": "hi"},
        *parsed.output,
        *plain.output,
        {"role": "user", "content": "go on"},
    ]
    await client.responses.create(model=MODEL, input=items)
    await client.responses.create(model=MODEL, input=[each.model_dump() for each in plain.output])  # type: ignore[misc]
    said = [(m.role, m.text) for m in gateway.dispatcher.calls[2][1].body.messages]
    assert said == [
        ("user", "hi"),
        ("assistant", '{"name":"Ann","age":7}'),
        ("assistant", WHOLE),
        ("user", "go on"),
    ]


async def test_an_answer_that_was_cut_short_is_incomplete(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    cut = play(ACCEPTED, text("one"), [RowEvent(0, Finished("length", 1))])
    gateway.dispatcher.scripts += [cut, cut]
    answer = await client.responses.create(model=MODEL, input="hi", max_output_tokens=1)
    stream = await client.responses.create(model=MODEL, input="hi", max_output_tokens=1, stream=True)
    last = [event async for event in stream][-1]
    assert last.type == "response.incomplete"
    for response in (answer, last.response):
        assert response.status == response.output[0].status == "incomplete"  # type: ignore[union-attr]
        assert response.incomplete_details is not None
        assert response.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize("before", [[], text("one")])
async def test_a_stream_that_breaks_raises_instead_of_ending(
    client: openai.AsyncOpenAI, gateway: Gateway, before: list[RowEvent]
) -> None:
    gateway.dispatcher.scripts += [play(ACCEPTED, before, ReplicaLost("killed"))] * 2
    seen: list[str] = []

    async def read() -> None:
        async for event in await client.responses.create(model=MODEL, input="hi", stream=True):
            seen.append(event.type)

    with pytest.raises(openai.APIError, match="lost"):
        await read()
    assert seen[-1:] == (["response.failed"] if before else [])
    with pytest.raises(openai.APIError, match="lost"):
        async with client.responses.stream(model=MODEL, input="hi") as stream:
            await stream.get_final_response()
