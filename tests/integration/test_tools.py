"""Calls of tools by a running fleet: whole and streamed, by the official client, and back with their results."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import openai
import pytest

from tests.integration.conftest import LocalFleet

MODEL = "llama"
QUESTION: Any = {"role": "user", "content": "How is the weather at Delphi?"}
SCHEMAS: dict[str, Any] = {
    "weather": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 8}, "unit": {"enum": ["C", "F"]}},
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
    "now": {"type": "object", "properties": {}, "additionalProperties": False},
}
TOOLS: Any = [
    {"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in SCHEMAS.items()
]
NAMED: Any = {"type": "function", "function": {"name": "weather"}}


def made(calls: Any) -> list[tuple[str, str, Any]]:
    """(id, name, arguments) of each call, which keep to their schemas."""
    found = [(call.id, call.function.name, json.loads(call.function.arguments)) for call in calls]
    for _, name, arguments in found:
        jsonschema.validate(arguments, SCHEMAS[name])
    return found


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_calls_come_whole_and_streamed_alike(local_fleet: LocalFleet, choice: Any) -> None:
    asked: Any = {
        "model": MODEL,
        "messages": [QUESTION],
        "tools": TOOLS,
        "tool_choice": choice,
        "seed": 5,
        "max_tokens": 500,
    }
    with local_fleet.openai() as client:
        whole = client.chat.completions.create(**asked).choices[0]
        with client.chat.completions.stream(**asked) as stream:
            kinds = [event.type for event in stream]
            joined = stream.get_final_completion().choices[0]
    calls = made(whole.message.tool_calls)
    assert calls == made(joined.message.tool_calls)
    assert whole.finish_reason == joined.finish_reason == "tool_calls"
    assert whole.message.content is joined.message.content is None
    assert kinds.count("tool_calls.function.arguments.delta") >= len(calls)
    if choice is NAMED:
        assert [name for _, name, _ in calls] == ["weather"]


def test_several_rows_call_several_tools_and_one_where_one_may_be(local_fleet: LocalFleet) -> None:
    asked: Any = {"model": MODEL, "messages": [QUESTION], "tools": TOOLS, "tool_choice": "required", "n": 12, "seed": 2}
    with local_fleet.openai() as client:
        many = client.chat.completions.create(**asked, max_tokens=600).choices
        single = client.chat.completions.create(**asked, max_tokens=600, parallel_tool_calls=False).choices
    ended = [made(choice.message.tool_calls) for choice in many if choice.finish_reason == "tool_calls"]
    assert {name for calls in ended for _, name, _ in calls} == {"weather", "now"}
    assert len({identity for calls in ended for identity, _, _ in calls}) == sum(map(len, ended))
    assert [len(made(choice.message.tool_calls)) for choice in single] == [1] * 12


def test_results_go_back_and_an_answer_follows(local_fleet: LocalFleet) -> None:
    with local_fleet.openai() as client:
        asked: Any = {"model": MODEL, "tools": TOOLS, "seed": 5}
        called = client.chat.completions.create(messages=[QUESTION], tool_choice=NAMED, max_tokens=500, **asked)
        first = called.choices[0].message
        messages: Any = [
            QUESTION,
            first,
            *({"role": "tool", "tool_call_id": call.id, "content": "18 °C"} for call in first.tool_calls or ()),
        ]
        answer = client.chat.completions.create(messages=messages, max_tokens=60, **asked)
    said = [QUESTION, first.model_dump(exclude_unset=True), *messages[2:]]
    with local_fleet.http() as http:
        counted = http.post("/tokenize", json={"model": MODEL, "tools": TOOLS, "messages": said}).raise_for_status()
    assert called.choices[0].finish_reason == "tool_calls"
    assert len(messages) == 3
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == counted.json()["count"]


def test_what_cannot_be_called_is_refused_by_its_field(local_fleet: LocalFleet) -> None:
    bad: Any = [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "x"}}}}}]
    with local_fleet.openai() as client:
        for model, tools, choice, param in (
            (MODEL, bad, "required", "tools[0].function.parameters"),
            ("pair", TOOLS, "auto", "tools"),
        ):
            with pytest.raises(openai.BadRequestError) as refused:
                client.chat.completions.create(model=model, messages=[QUESTION], tools=tools, tool_choice=choice)
            assert refused.value.param == param
