"""Functions in the Responses API: how they are told to a chat, and how its calls are answered."""

from __future__ import annotations

from typing import Any

import openai
import pydantic
import pytest

from shared.errors import InvalidRequest
from shared.events import Failed, Finished, RowEvent, ToolCallDelta
from shared.schemas.response_results import ResponseObject
from tests.unit.gateway.fakes import ACCEPTED, MODEL, FakeDispatcher, Gateway, fail_with, make_gateway, play, text
from tests.unit.gateway.test_responses import chat_of, events_of, post

WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "description": "Tells the weather.",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}
CALL = {"type": "function_call", "call_id": "a", "name": "weather", "arguments": '{"place":"Delphi"}'}
GIVEN = {"type": "function_call_output", "call_id": "a", "output": "sunny"}
USER, ASSISTANT = ({"role": role, "content": role} for role in ("user", "assistant"))


def call(index: int, *pieces: str, id: str, name: str = "weather") -> list[RowEvent]:
    """A call of a function, piece by piece, after one that only says its name."""
    deltas = [ToolCallDelta(index, id, name, "", 5, 1)]
    deltas += [ToolCallDelta(index, None, None, piece, 5, i + 2) for i, piece in enumerate(pieces)]
    return [RowEvent(0, delta) for delta in deltas]


CALLED = [RowEvent(0, Finished("tool_calls", 9))]
TWO_CALLS = play(
    ACCEPTED,
    text("Let me see."),
    [*call(0, '{"place":', '"Delphi"}', id="a"), *call(1, '{"place":"Athens"}', id="b")],
    CALLED,
)


def test_functions_and_the_choice_among_them_are_told_as_a_chat_tells_them() -> None:
    chat = chat_of(tools=[WEATHER], tool_choice={"type": "function", "name": "weather"}, parallel_tool_calls=False)
    told = chat.model_dump(exclude_unset=True)
    about = {name: WEATHER[name] for name in ("name", "description", "parameters")}
    assert told["tools"] == [{"type": "function", "function": about}]
    assert told["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert told["parallel_tool_calls"] is False


def test_a_choice_that_needs_no_functions_may_come_without_any() -> None:
    for choice in ("auto", "none"):
        chat = chat_of(tools=[], tool_choice=choice, parallel_tool_calls=False)
        assert chat.model_fields_set == {"model", "messages"}


@pytest.mark.parametrize(
    ("items", "messages"),
    [
        ([CALL, GIVEN], [(None, ["a"], None), ("sunny", [], "a")]),
        ([ASSISTANT, CALL, GIVEN], [("assistant", ["a"], None), ("sunny", [], "a")]),
        ([CALL, ASSISTANT, GIVEN], [("assistant", ["a"], None), ("sunny", [], "a")]),
        (
            [CALL, {**CALL, "call_id": "b"}, GIVEN, {**GIVEN, "call_id": "b"}],
            [(None, ["a", "b"], None), ("sunny", [], "a"), ("sunny", [], "b")],
        ),
        (
            [CALL, GIVEN, {**CALL, "call_id": "b"}, {**GIVEN, "call_id": "b"}],
            [(None, ["a"], None), ("sunny", [], "a"), (None, ["b"], None), ("sunny", [], "b")],
        ),
        ([ASSISTANT, ASSISTANT], [("assistant", [], None), ("assistant", [], None)]),
    ],
)
def test_what_the_assistant_said_and_called_at_one_time_is_one_message(
    items: list[Any], messages: list[tuple[str | None, list[str], str | None]]
) -> None:
    found = chat_of(input=[USER, *items]).messages[1:]
    assert [(each.content, [call.id for call in each.calls], each.tool_call_id) for each in found] == messages


def test_what_functions_give_may_come_in_parts() -> None:
    parts = [{"type": "input_text", "text": piece} for piece in ("sun", "ny")]
    assert chat_of(input=[CALL, {**GIVEN, "output": parts}]).messages[1].content == "sunny"


@pytest.mark.parametrize("stream", [True, False])
async def test_calls_are_items_of_their_own_behind_the_text(gateway: Gateway, stream: bool) -> None:
    gateway.dispatcher.default = TWO_CALLS
    response = await post(gateway, tools=[WEATHER], stream=stream)
    answer = events_of(response.text)[-1]["response"] if stream else response.json()
    ResponseObject.model_validate(answer)
    said, *calls = answer["output"]
    assert said["content"][0]["text"] == "Let me see."
    assert [(call["call_id"], call["name"], call["arguments"]) for call in calls] == [
        ("a", "weather", '{"place":"Delphi"}'),
        ("b", "weather", '{"place":"Athens"}'),
    ]
    assert {item["status"] for item in answer["output"]} == {answer["status"]} == {"completed"}
    assert answer["tools"] == [{**WEATHER, "strict": None}]
    assert (answer["tool_choice"], answer["parallel_tool_calls"]) == ("auto", True)
    assert answer["usage"]["output_tokens"] == 2


async def test_each_item_is_done_before_the_next_begins(gateway: Gateway) -> None:
    gateway.dispatcher.default = TWO_CALLS
    events = events_of((await post(gateway, tools=[WEATHER], stream=True)).text)
    told = [
        (event["type"].removeprefix("response."), event.get("output_index"))
        for event in events
        if event["type"].startswith(("response.output_item", "response.function_call"))
    ]
    arguments = "function_call_arguments"
    assert told == [
        ("output_item.added", 0),
        ("output_item.done", 0),
        ("output_item.added", 1),
        (f"{arguments}.delta", 1),
        (f"{arguments}.delta", 1),
        (f"{arguments}.done", 1),
        ("output_item.done", 1),
        ("output_item.added", 2),
        (f"{arguments}.delta", 2),
        (f"{arguments}.done", 2),
        ("output_item.done", 2),
    ]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_call_that_was_cut_short_is_incomplete(gateway: Gateway, stream: bool) -> None:
    gateway.dispatcher.default = play(
        ACCEPTED, text("So:"), call(0, '{"pla', id="a"), [RowEvent(0, Finished("length", 3))]
    )
    response = await post(gateway, tools=[WEATHER], stream=stream)
    answer = events_of(response.text)[-1]["response"] if stream else response.json()
    assert [item["status"] for item in answer["output"]] == ["completed", "incomplete"]
    assert (answer["status"], answer["output"][1]["arguments"]) == ("incomplete", '{"pla')


async def test_a_call_that_goes_on_after_the_next_began_is_a_failure_and_not_another_call(gateway: Gateway) -> None:
    late = [RowEvent(0, ToolCallDelta(0, None, None, "}", 5, 9))]
    gateway.dispatcher.default = play(ACCEPTED, call(0, "{", id="a"), call(1, "{}", id="b"), late, CALLED)
    response = await post(gateway, tools=[WEATHER])
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ("messages[1].tool_calls[0].function.arguments", "input[1].arguments"),
        ("messages[1].tool_calls[1].function.name", "input[2].name"),
        ("messages[1].tool_calls[1].id", "input[2].call_id"),
        ("messages[1].tool_calls", "input[1]"),
        ("messages[1].tool_calls[7].id", "input[1].call_id"),
        ("messages[2].content", "input[3].output"),
        ("messages[2].tool_call_id", "input[3].call_id"),
        ("messages[9].content", "input"),  # another server's word, perhaps
        ("tools", "tools"),
        ("tools[0].function.parameters", "tools[0].parameters"),
        ("tool_choice.function.name", "tool_choice.name"),
    ],
)
async def test_a_refusal_by_the_model_names_the_item_or_the_function(said: str, param: str) -> None:
    gateway = make_gateway(FakeDispatcher(fail_with(Failed.of(InvalidRequest("no", param=said)))))
    response = await post(gateway, input=[USER, CALL, {**CALL, "call_id": "b"}, GIVEN, USER], tools=[WEATHER])
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize("count", [3, 300])
async def test_a_conversation_of_any_length_is_answered_or_refused_by_its_item(gateway: Gateway, count: int) -> None:
    items = [USER, ASSISTANT] * count
    assert (await post(gateway, input=items)).status_code == 200
    assert len(gateway.dispatcher.calls[0][1].body.messages) == 2 * count
    refused = await post(gateway, input=[*items, GIVEN])
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, f"input[{2 * count}].call_id")


class Weather(pydantic.BaseModel):
    """Tells the weather."""

    place: str


async def test_strict_validation_accepts_every_event_of_calls(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    gateway.dispatcher.default = TWO_CALLS
    stream = await client.responses.create(model=MODEL, input="hi", tools=[{**WEATHER, "strict": True}], stream=True)  # type: ignore[list-item]
    kinds = [event.type async for event in stream]
    assert kinds.count("response.function_call_arguments.done") == 2
    assert kinds[-1] == "response.completed"


async def test_the_client_parses_calls_and_gives_them_back_with_what_they_gave(
    client: openai.AsyncOpenAI, gateway: Gateway
) -> None:
    gateway.dispatcher.scripts += [TWO_CALLS, TWO_CALLS, TWO_CALLS]
    tools: Any = [openai.pydantic_function_tool(Weather, name="weather")]
    flat: Any = [{"type": "function", **tools[0]["function"]}]
    async with client.responses.stream(model=MODEL, input="hi", tools=tools) as stream:
        streamed = await stream.get_final_response()
    parsed = await client.responses.parse(model=MODEL, input="hi", tools=tools)
    for answer in (streamed, parsed):
        calls = [item for item in answer.output if item.type == "function_call"]
        assert [call.parsed_arguments for call in calls] == [Weather(place="Delphi"), Weather(place="Athens")]
    given = [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"} for call in calls]
    plain = await client.responses.create(model=MODEL, input="hi", tools=flat)
    for answers in (parsed.output, plain.output, [item.model_dump(exclude_none=True) for item in plain.output]):
        items: Any = [{"role": "user", "content": "hi"}, *answers, *given]
        answer = await client.responses.create(model=MODEL, input=items, tools=flat)
        assert answer.output_text
    messages = [(m.role, m.text) for m in gateway.dispatcher.calls[-1][1].body.messages]
    assert messages == [("user", "hi"), ("assistant", "Let me see."), ("tool", "sunny"), ("tool", "sunny")]
