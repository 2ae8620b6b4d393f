"""The Responses API of a running fleet by the official client: whole, streamed, parsed, and in a conversation."""

from __future__ import annotations

import json
from typing import Any, Literal

import openai
import pydantic
import pytest

from tests.integration.conftest import LocalFleet

MODEL = "llama"


WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 8}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


class Song(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    kind: Literal["hymn", "ode"]
    lines: int = pydantic.Field(ge=0, le=200)


def test_a_stream_ends_with_what_a_plain_answer_and_a_chat_of_the_same_seed_say(local_fleet: LocalFleet) -> None:
    asked: Any = {"model": MODEL, "input": "Who sings?", "max_output_tokens": 24, "extra_body": {"seed": 5}}
    with local_fleet.openai() as client:
        plain = client.responses.create(instructions="Sing.", **asked)
        events = list(client.responses.create(instructions="Sing.", stream=True, **asked))
        chat = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "system", "content": "Sing."}, {"role": "user", "content": "Who sings?"}],
            max_tokens=24,
            seed=5,
        )
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    last = events[-1]
    assert last.type == f"response.{plain.status}"
    assert "".join(deltas) == last.response.output_text == plain.output_text == chat.choices[0].message.content  # type: ignore[union-attr]
    assert plain.usage is not None
    assert chat.usage is not None
    assert (plain.usage.input_tokens, plain.usage.output_tokens) == (
        chat.usage.prompt_tokens,
        chat.usage.completion_tokens,
    )


def test_the_client_parses_answers_of_a_class_whole_and_streamed(local_fleet: LocalFleet) -> None:
    with local_fleet.openai() as client:
        whole = client.responses.parse(model=MODEL, input="Sing.", text_format=Song)
        with client.responses.stream(model=MODEL, input="Sing.", text_format=Song) as stream:
            streamed = stream.get_final_response()
    assert isinstance(whole.output_parsed, Song)
    assert isinstance(streamed.output_parsed, Song)


def test_a_conversation_goes_on_with_the_answers_items_and_is_not_read_again(local_fleet: LocalFleet) -> None:
    items: Any = [{"role": "user", "content": "Tell me of the spring from which poets drank. " * 12}]
    with local_fleet.openai() as client:
        first = client.responses.create(model=MODEL, input=items, max_output_tokens=8)
        items += [*first.output, {"role": "user", "content": "And then?"}]
        second = client.responses.create(model=MODEL, input=items, max_output_tokens=8)
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens
    assert second.usage.input_tokens_details.cached_tokens > 0


def test_functions_are_called_whole_and_streamed_alike_and_what_they_gave_goes_back(local_fleet: LocalFleet) -> None:
    items: Any = [{"role": "user", "content": "How is the weather at Delphi?"}]
    asked: Any = {"model": MODEL, "tools": [WEATHER], "extra_body": {"seed": 5}, "max_output_tokens": 300}
    with local_fleet.openai() as client:
        whole = client.responses.create(input=items, tool_choice="required", parallel_tool_calls=False, **asked)
        with client.responses.stream(input=items, tool_choice="required", parallel_tool_calls=False, **asked) as stream:
            kinds = [event.type for event in stream]
            streamed = stream.get_final_response()
        (call,), (same,) = whole.output, streamed.output
        assert call.type == same.type == "function_call"
        items += [call, {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}]
        after = client.responses.create(input=items, **asked)
    assert (call.name, call.arguments) == (same.name, same.arguments)
    assert set(json.loads(call.arguments)) == {"city"}
    assert "response.function_call_arguments.delta" in kinds
    assert whole.usage is not None
    assert after.usage is not None
    assert after.usage.input_tokens > whole.usage.input_tokens


def test_what_is_kept_nowhere_and_what_does_not_fit_is_refused_by_the_requests_own_fields(
    local_fleet: LocalFleet,
) -> None:
    refusals: list[tuple[dict[str, Any], str]] = [
        ({"previous_response_id": "resp_1", "input": "a"}, "previous_response_id"),
        ({"store": True, "input": "a"}, "store"),
        ({"input": [{"role": "user", "content": "a" * 400_000}]}, "input"),
        (
            {"input": "a", "text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "no"}}}},
            "text.format.schema",
        ),
        ({"input": "a", "max_output_tokens": 10**6}, "input"),
    ]
    with local_fleet.openai() as client:
        for fields, param in refusals:
            for stream in (False, True):
                with pytest.raises(openai.BadRequestError) as refused:
                    client.responses.create(model=MODEL, stream=stream, **fields)
                assert refused.value.param == param
        assert client.responses.create(model=MODEL, input="a", max_output_tokens=4).output_text is not None
