"""The Responses API: the chat that its requests become, its bodies whole and streamed, and how it fails."""

from __future__ import annotations

import asyncio
import json
from functools import reduce
from operator import or_
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter

from services.gateway.dispatcher import ReplicaLost
from services.gateway.responses_chat import as_chat
from services.gateway.state import Tempo
from shared.errors import ContextTooLong, InternalError, InvalidRequest, Overloaded
from shared.events import Failed, Finished, RowEvent, TextDelta
from shared.schemas.response_results import EVENTS, ResponseObject
from shared.schemas.responses import ResponsesRequest
from shared.schemas.text import ChatRequest
from tests.unit.gateway.conftest import Serve
from tests.unit.gateway.fakes import (
    ACCEPTED,
    HELLO,
    MODEL,
    STOPPED,
    FakeDispatcher,
    Gateway,
    fail_with,
    make_gateway,
    play,
    text,
)
from tests.unit.gateway.route_fakes import by_model, gateway_of, route

PATH = "/v1/responses"
WHOLE = "".join(HELLO)
EVENT: TypeAdapter[Any] = TypeAdapter(reduce(or_, EVENTS))
LOGPROBS = ["message.output_text.logprobs"]
SCHEMA = {"type": "object", "properties": {"b": {}, "a": {}}}


def body_of(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "input": "hi", **fields}


def chat_of(**fields: Any) -> ChatRequest:
    return as_chat(ResponsesRequest.model_validate(body_of(**fields)))[0]


def events_of(answer: str) -> list[dict[str, Any]]:
    """The data of a stream's events, each as it is documented; their names and numbers must agree with it."""
    blocks = [block for block in answer.split("\n\n") if block and not block.startswith(":")]
    events: list[dict[str, Any]] = []
    for number, block in enumerate(blocks):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        EVENT.validate_python(event)
        assert (f"event: {event['type']}", number) == (name, event["sequence_number"])
        events.append(event)
    return events


async def post(gateway: Gateway, **fields: Any) -> httpx.Response:
    async with gateway.client() as client:
        return await client.post(PATH, json=body_of(**fields))


def test_a_text_is_what_the_user_says_after_the_instructions() -> None:
    chat = chat_of(instructions="Be brief.")
    assert [(message.role, message.content) for message in chat.messages] == [("system", "Be brief."), ("user", "hi")]


def test_items_become_messages_in_order_and_their_parts_one_text() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    said = {"type": "output_text", "text": "c", "annotations": [], "logprobs": []}
    answer = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [said]}
    chat = chat_of(input=[{"role": "developer", "content": "d"}, {"role": "user", "content": parts}, answer])
    assert [(message.role, message.content) for message in chat.messages] == [
        ("developer", "d"),
        ("user", "ab"),
        ("assistant", "c"),
    ]


def test_what_is_left_out_stays_so_since_other_servers_have_defaults_of_their_own() -> None:
    assert chat_of().model_fields_set == {"model", "messages"}


def test_how_tokens_are_chosen_is_said_in_a_chats_words() -> None:
    extras = {"seed": 3, "temperature": 0.5, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "stop": ["x"], "min_tokens": 1}
    extras |= {"presence_penalty": 0.1, "frequency_penalty": 0.2, "repetition_penalty": 1.1, "logit_bias": {"5": 1.0}}
    extras |= {"prompt_cache_key": "k", "stream": True, "ignore_eos": True}
    chat = chat_of(**extras, max_output_tokens=7, include=LOGPROBS, top_logprobs=2, safety_identifier="ann")
    assert {name: getattr(chat, name) for name in extras} == extras
    assert (chat.max_new_tokens, chat.logprobs, chat.top_logprobs, chat.user) == (7, True, 2, "ann")
    assert chat_of(user="bob", safety_identifier="ann").user == "bob"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, '{"type":"object"}'),
        (
            {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True},
            json.dumps(SCHEMA, separators=(",", ":")),
        ),
    ],
)
def test_a_form_is_held_as_a_chats(given: dict[str, Any], text: str | None) -> None:
    form = chat_of(text={"format": given, "verbosity": "low"}).form
    assert (form and form.text) == text


async def test_an_answer_says_what_it_was_asked_with_and_that_it_is_not_kept(gateway: Gateway) -> None:
    asked: dict[str, Any] = {"instructions": "Be brief.", "metadata": {"a": "b"}, "temperature": 0.5, "user": "ann"}
    asked |= {"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}}
    response = await post(gateway, **asked, reasoning={"effort": "high"}, service_tier="auto")
    answer = response.json()
    ResponseObject.model_validate(answer)
    assert answer | asked == answer
    assert (answer["id"][:5], answer["created_at"], answer["model"]) == ("resp_", 1_700_000_000, MODEL)
    assert (answer["store"], answer["reasoning"]["effort"], answer["status"]) == (False, None, "completed")
    assert [part["text"] for item in answer["output"] for part in item["content"]] == [WHOLE]
    details = {"input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0}}
    details["output_tokens_details"] = {"reasoning_tokens": 0}
    assert answer["usage"] == {"input_tokens": 5, "output_tokens": 4, "total_tokens": 9, **details}


async def test_a_stream_ends_with_what_a_plain_answer_is(gateway: Gateway) -> None:
    gateway.dispatcher.default = play(
        ACCEPTED, [RowEvent(0, TextDelta("one", 7, 1, cached_tokens=4))], [RowEvent(0, Finished("content_filter", 1))]
    )
    plain = (await post(gateway)).json()
    streamed = await post(gateway, stream=True)
    *_, last = events_of(streamed.text)
    assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "[DONE]" not in streamed.text
    for answer in (plain, last["response"]):
        for each in (answer, *answer["output"]):
            del each["id"]
    assert last["response"] == plain
    assert plain["incomplete_details"] == {"reason": "content_filter"}
    assert plain["usage"]["input_tokens_details"]["cached_tokens"] == 4


async def test_ids_are_the_same_through_all_of_a_stream_and_no_other_response_has_them(gateway: Gateway) -> None:
    seen: list[tuple[str, str]] = []
    for _ in range(2):
        events = events_of((await post(gateway, stream=True)).text)
        (response,) = {event["response"]["id"] for event in events if "response" in event}
        items = {event["item_id"] for event in events if "item_id" in event}
        (item,) = items | {event["item"]["id"] for event in events if "item" in event}
        seen.append((response, item))
    assert len({each for pair in seen for each in pair}) == 4


@pytest.mark.parametrize("stream", [True, False])
async def test_logprobs_have_openais_shape_where_they_are_asked_for(gateway: Gateway, stream: bool) -> None:
    response = await post(gateway, include=LOGPROBS, top_logprobs=2, stream=stream)
    events = events_of(response.text) if stream else []
    answer = events[-1]["response"] if stream else response.json()
    logprobs = answer["output"][0]["content"][0]["logprobs"]
    first = {"token": "Hello", "bytes": list(b"Hello"), "logprob": -0.5}
    assert logprobs[0] == first | {"top_logprobs": [{"token": t, "bytes": [ord(t)], "logprob": -1.5} for t in "xy"]}
    deltas = [event["logprobs"] for event in events if event["type"] == "response.output_text.delta"]
    assert not stream or [each for delta in deltas for each in delta] == logprobs
    assert (await post(gateway)).json()["output"][0]["content"][0]["logprobs"] == []


@pytest.mark.parametrize("stream", [True, False])
async def test_a_row_that_gave_nothing_has_an_empty_message(gateway: Gateway, stream: bool) -> None:
    gateway.dispatcher.default = play(ACCEPTED, [RowEvent(0, TextDelta("", 5, 0)), *STOPPED])
    response = await post(gateway, stream=stream)
    answer = events_of(response.text)[-1]["response"] if stream else response.json()
    assert [item["content"][0]["text"] for item in answer["output"]] == [""]
    assert answer["usage"]["input_tokens"] == 5


async def test_text_that_looks_like_an_event_cannot_break_the_stream(gateway: Gateway) -> None:
    evil = '"}\n\nevent: response.completed\ndata: {}\n\n\x00\u2028'
    gateway.dispatcher.default = play(ACCEPTED, text(evil), STOPPED)
    events = events_of((await post(gateway, stream=True)).text)
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == evil


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ("messages", "input"),
        ("messages[0].role", "instructions"),
        ("messages[2].content", "input[1].content"),
        ("max_completion_tokens", "max_output_tokens"),
        ("max_tokens", "max_output_tokens"),
        ("response_format", "text.format"),
        ("response_format.json_schema.schema", "text.format.schema"),
        ("logit_bias", "logit_bias"),
        ("top_logprobs", "top_logprobs"),
        (None, None),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_refusal_by_the_model_names_the_requests_own_field(stream: bool, said: str, param: str) -> None:
    gateway = make_gateway(FakeDispatcher(fail_with(Failed.of(InvalidRequest("no", param=said)))))
    items = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    response = await post(gateway, instructions="c", input=items, stream=stream)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert gateway.log_lines()[-1]["status"] == 400


async def test_a_text_has_no_fields_that_a_refusal_could_name() -> None:
    failure = Failed.of(ContextTooLong(limit=4, got=5, param="messages[0].content"))
    response = await post(make_gateway(FakeDispatcher(fail_with(failure))))
    assert response.json()["error"]["param"] == "input"
    assert response.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("stream", [True, False])
async def test_overload_keeps_its_status_and_headers(stream: bool) -> None:
    response = await post(make_gateway(FakeDispatcher(fail_with(Failed.of(Overloaded("full"))))), stream=stream)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "server_is_overloaded")
    assert response.headers["retry-after"]


@pytest.mark.parametrize(
    ("breakage", "code", "kind"),
    [
        (ReplicaLost("killed"), "server_is_overloaded", "server_error"),
        (RuntimeError("secret path /srv/weights"), "internal_error", "server_error"),
        ([RowEvent(0, Failed.of(InternalError()))], "internal_error", "server_error"),
        ([RowEvent(0, Failed.of(InvalidRequest("no", param="messages")))], "invalid_value", "invalid_prompt"),
    ],
)
async def test_a_failure_after_the_first_byte_is_told_and_cuts_the_connection(
    serve: Serve, breakage: Any, code: str, kind: str
) -> None:
    gateway = make_gateway(FakeDispatcher(play(ACCEPTED, text("one"), breakage)))
    received = await _read_until_cut(await serve(gateway.app), body_of(stream=True))
    *_, failed, error = events_of(received)
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    assert failed["response"]["error"]["code"] == kind
    assert (error["type"], error["code"], error["error"]["code"]) == ("error", code, code)
    assert error["param"] == error["error"]["param"] == ("input" if kind == "invalid_prompt" else None)
    assert "secret" not in received
    assert gateway.log_lines()[-1]["cut"] is True


async def test_a_failure_after_a_comment_alone_begins_the_response_that_failed(serve: Serve) -> None:
    commented = asyncio.Event()
    script = play(ACCEPTED, commented, [RowEvent(0, Failed.of(InternalError()))])
    gateway = make_gateway(FakeDispatcher(script), tempo=Tempo(header_hold_s=0.01))
    received = await _read_until_cut(await serve(gateway.app), body_of(stream=True), began=commented)
    assert received.startswith(": loading\n\n")
    kinds = [event["type"] for event in events_of(received)]
    assert kinds == ["response.created", "response.in_progress", "response.failed", "error"]


async def _read_until_cut(url: str, body: dict[str, Any], *, began: asyncio.Event | None = None) -> str:
    """What came before the connection broke, `began` with its first bytes. Fails if it ended well."""
    received: list[bytes] = []

    async def read(answer: httpx.Response) -> None:
        async for data in answer.aiter_raw():
            received.append(data)
            if began is not None:
                began.set()

    async with httpx.AsyncClient(base_url=url) as client, client.stream("POST", PATH, json=body) as answer:
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            await read(answer)
    return b"".join(received).decode()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_fallbacks_answer_is_one_response_of_the_model_that_gave_it(stream: bool) -> None:
    down = fail_with(Failed.of(Overloaded("full")))
    gateway = gateway_of(route("stable", fallbacks=["spare"]), default=by_model(stable=down))
    response = await post(gateway, model="front", stream=stream)
    answers = (
        [event["response"] for event in events_of(response.text) if "response" in event]
        if stream
        else [response.json()]
    )
    assert {answer["model"] for answer in answers} == {"spare"}
    assert answers[-1]["output"][0]["content"][0]["text"] == WHOLE


async def test_it_is_counted_and_logged_as_a_chat_of_its_own_route(gateway: Gateway) -> None:
    await post(gateway)
    await post(gateway, stream=True)
    line = gateway.log_lines()[-1]
    assert (line["path"], line["model"], line["prompt_tokens"], line["completion_tokens"]) == (PATH, MODEL, 5, 4)
    assert gateway.dispatcher.calls[0][1].task == "chat"
    assert b'route="/v1/responses",status="200",tenant="default"} 2.0' in gateway.state.metrics.render([])
