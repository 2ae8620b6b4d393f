"""The official client, with strict response validation, over a real socket."""

from __future__ import annotations

import json
from typing import Any

import openai
import pydantic
import pytest

from services.gateway.dispatcher import ReplicaLost
from shared.errors import ContextTooLong, Overloaded
from shared.events import Failed, Finished, RowEvent, TextDelta, ToolCallDelta
from shared.schemas.text import text_of
from tests.unit.gateway.conftest import Serve
from tests.unit.gateway.fakes import ACCEPTED, HELLO, MODEL, OTHER, STOPPED, Gateway, fail_with, play, report, text

WHOLE = "".join(HELLO)


async def test_strict_validation_accepts_a_plain_chat(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "hi"}], n=2, logprobs=True, top_logprobs=2
    )
    assert [choice.message.content for choice in answer.choices] == [WHOLE, WHOLE]
    assert answer.usage is not None
    assert answer.usage.total_tokens == 13
    assert answer._request_id is not None
    assert answer._request_id.startswith("req_")


async def test_strict_validation_accepts_a_streamed_chat(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        stream=True,
        stream_options={"include_usage": True},
        logprobs=True,
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == WHOLE
    assert chunks[-1].usage is not None


class Person(pydantic.BaseModel):
    name: str
    age: int


async def test_the_client_parses_an_answer_of_a_class_and_its_schema_arrives_in_order(
    client: openai.AsyncOpenAI, gateway: Gateway
) -> None:
    gateway.dispatcher.scripts.append(play(ACCEPTED, text('{"name":"Ann",', '"age":7}'), STOPPED))
    answer = await client.chat.completions.parse(
        model=MODEL, messages=[{"role": "user", "content": "hi"}], response_format=Person
    )
    assert answer.choices[0].message.parsed == Person(name="Ann", age=7)
    form = gateway.dispatcher.calls[0][1].body.form
    assert form.param == "response_format.json_schema.schema"
    assert list(json.loads(form.text)["properties"]) == ["name", "age"]


TOOLS: Any = [{"type": "function", "function": {"name": name}} for name in ("weather", "now")]
CALLED = play(
    ACCEPTED,
    [RowEvent(0, ToolCallDelta(0, "call_1", "weather", '{"city"', 5, 1))],
    [
        RowEvent(0, ToolCallDelta(0, None, None, ':"Köln"}', 5, 2)),
        RowEvent(0, ToolCallDelta(1, "call_2", "now", "", 5, 3)),
    ],
    [RowEvent(0, ToolCallDelta(1, None, None, "{}", 5, 4)), RowEvent(0, ToolCallDelta(1, None, None, "", 5, 7))],
    [RowEvent(0, Finished("tool_calls", 12))],
)
EXPECTED = [("call_1", "weather", '{"city":"Köln"}'), ("call_2", "now", "{}")]


async def test_calls_of_tools_come_whole_and_go_back_with_their_results(
    client: openai.AsyncOpenAI, gateway: Gateway
) -> None:
    gateway.dispatcher.scripts.append(CALLED)
    question: Any = {"role": "user", "content": "Weather?"}
    answer = await client.chat.completions.create(model=MODEL, messages=[question], tools=TOOLS)
    (choice,) = answer.choices
    calls: Any = choice.message.tool_calls
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == EXPECTED
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 7

    results: Any = [{"role": "tool", "tool_call_id": call.id, "content": "18"} for call in calls]
    messages: Any = [question, choice.message, *results]
    await client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    said = gateway.dispatcher.calls[1][1].body.messages
    assert [call.function.arguments for call in said[1].calls] == ['{"city":"Köln"}', "{}"]
    assert [message.tool_call_id for message in said[2:]] == ["call_1", "call_2"]


async def test_calls_of_tools_are_streamed_and_the_client_joins_them(
    client: openai.AsyncOpenAI, gateway: Gateway
) -> None:
    gateway.dispatcher.scripts += [CALLED, CALLED]
    question: Any = [{"role": "user", "content": "Weather?"}]
    stream = await client.chat.completions.create(model=MODEL, messages=question, tools=TOOLS, stream=True)
    chunks = [chunk async for chunk in stream]
    pieces = [piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or ()]
    assert [(piece.index, piece.id, piece.type, piece.function and piece.function.name) for piece in pieces] == [
        (0, "call_1", "function", "weather"),
        (0, None, None, None),
        (1, "call_2", "function", "now"),
        (1, None, None, None),
    ]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    async with client.chat.completions.stream(model=MODEL, messages=question, tools=TOOLS) as joined:
        final = await joined.get_final_completion()
    calls: Any = final.choices[0].message.tool_calls
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == EXPECTED
    assert final.choices[0].message.content is None
    # The client adds to such a message what it has parsed, and sends that along.
    back: Any = [*question, final.choices[0].message]
    await client.chat.completions.create(model=MODEL, messages=back, tools=TOOLS)
    assert gateway.dispatcher.calls[2][1].body.messages[1].calls[0].function.name == "weather"


async def test_text_before_calls_is_content(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    both = [RowEvent(0, TextDelta("Let me see.", 5, 1)), RowEvent(0, ToolCallDelta(0, "call_1", "now", "{}", 5, 2))]
    gateway.dispatcher.scripts.append(play(ACCEPTED, both, [RowEvent(0, Finished("tool_calls", 7))]))
    answer = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "hi"}], tools=TOOLS, tool_choice="required"
    )
    assert answer.choices[0].message.content == "Let me see."
    assert len(answer.choices[0].message.tool_calls or ()) == 1


async def test_what_the_answer_is_expected_to_be_arrives(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    question: Any = [{"role": "user", "content": "hi"}]
    parts: Any = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    for content in ("Hello", parts):
        expected: Any = {"type": "content", "content": content}
        answer = await client.chat.completions.create(model=MODEL, messages=question, prediction=expected)
        assert answer.choices[0].message.content == WHOLE
    assert [text_of(call.body.prediction.content) for _, call in gateway.dispatcher.calls] == ["Hello", "Hello"]


async def test_our_forms_of_completions_arrive(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    more = {"structured_outputs": {"choice": ["a", "b"]}}
    await client.completions.create(model=MODEL, prompt="a", extra_body=more)
    assert gateway.dispatcher.calls[0][1].body.form.text == ("a", "b")


@pytest.mark.parametrize("logprobs", [None, 0, 2])
async def test_strict_validation_accepts_a_completion(client: openai.AsyncOpenAI, logprobs: int | None) -> None:
    answer = await client.completions.create(model=MODEL, prompt=["a", "b"], n=2, logprobs=logprobs)
    assert [choice.text for choice in answer.choices] == [WHOLE] * 4


async def test_the_client_reads_a_streamed_completion(gateway: Gateway, serve: Serve) -> None:
    # Not strict: OpenAI's own streams have a null finish_reason before the last chunk, its client's types do not.
    url = await serve(gateway.app)
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:
        stream = await client.completions.create(
            model=MODEL, prompt="a", stream=True, logprobs=1, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == WHOLE
    assert chunks[-2].choices[0].finish_reason == "stop"


async def test_strict_validation_accepts_the_models(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    gateway.dispatcher.known["chat"] = [report()]
    assert [model.id async for model in client.models.list()] == [MODEL, OTHER]
    assert (await client.models.retrieve(OTHER)).id == OTHER


async def test_errors_become_the_clients_own(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    messages: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
    gateway.dispatcher.scripts.append(fail_with(Failed.of(ContextTooLong(limit=10, got=20, param="messages"))))
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model=MODEL, messages=messages)
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "messages")
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(model="gpt-5", messages=messages)
    gateway.dispatcher.scripts.append(fail_with(Failed.of(Overloaded("busy"))))
    with pytest.raises(openai.InternalServerError):
        await client.chat.completions.create(model=MODEL, messages=messages, stream=True)


async def test_a_stream_that_breaks_raises_instead_of_ending(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    gateway.dispatcher.scripts.append(play(ACCEPTED, text("one"), ReplicaLost("killed")))
    stream = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "hi"}], stream=True
    )
    assert (await anext(stream)).choices[0].delta.content == "one"
    with pytest.raises(openai.APIError, match="lost"):
        await anext(stream)
