"""Our calls as a remote server's requests, and its answers as our events."""

from __future__ import annotations

import json
import math
import threading
from typing import Any

import httpx
import pytest

from services.gateway.bodies import INLINE_BYTES
from services.gateway.upstreams.wire import AnswerRows, RemoteAnswer
from shared.errors import InvalidRequest, ServiceError, UpstreamFailed
from shared.events import Accepted, RowEvent, TextDelta, TokenLogprob, ToolCallDelta
from shared.schemas.text import SamplingRequest
from tests.unit.gateway.upstreams.remote import (
    DONE,
    HELLO,
    REMOTE_MODEL,
    SECRET,
    USAGE_CHUNK,
    Remote,
    answer,
    call,
    chat,
    chunk,
    completion,
    ends_of,
    event,
    events,
    streamed,
    text_of,
)

EVERY_OPTION = {
    "stop": ["a", "b"],
    "seed": -5,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "min_p": 0.1,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.2,
    "repetition_penalty": 1.1,
    "logit_bias": {"5": -1.0},
    "min_tokens": 2,
    "ignore_eos": True,
    "user": "u",
}

SCHEMA = {"type": "object", "properties": {"a": {"type": "null"}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}


@pytest.mark.parametrize(
    ("body", "path", "more"),
    [
        (
            chat(
                **{**EVERY_OPTION, "ignore_eos": False},
                n=1,
                max_completion_tokens=9,
                logprobs=True,
                top_logprobs=2,
                response_format=FORMAT,
            ),
            "/v1/chat/completions",
            {
                "messages": [{"role": "user", "content": "hi"}],
                "n": 1,
                "max_completion_tokens": 9,
                "logprobs": True,
                "top_logprobs": 2,
                "ignore_eos": False,
                "response_format": FORMAT,
            },
        ),
        (
            completion(
                **{**EVERY_OPTION, "ignore_eos": False}, n=1, logprobs=2, echo=True, structured_outputs={"json": SCHEMA}
            ),
            "/v1/completions",
            {
                "ignore_eos": False,
                "structured_outputs": {"json": SCHEMA},
                "prompt": "once",
                "n": 1,
                "logprobs": 2,
                "echo": True,
                "max_tokens": 16,
            },
        ),
    ],
    ids=["chat", "completion"],
)
async def test_every_option_that_was_set_reaches_the_server_and_none_that_was_not(
    body: SamplingRequest, path: str, more: dict[str, Any]
) -> None:
    remote = Remote([answer()])
    await events(remote.dispatcher(), call(body))
    assert remote.requests[0].url == f"https://far.example{path}"
    assert remote.said == {"model": REMOTE_MODEL, **EVERY_OPTION, **more, "user": remote.said["user"]}


@pytest.mark.parametrize("name", ["user", "prompt_cache_key"])
async def test_no_tenant_can_send_the_key_by_which_anothers_prompts_are_kept(name: str) -> None:
    remote = Remote([answer()])
    dispatcher = remote.dispatcher()
    sent: list[str] = []
    for tenant in ("alice", "bob", "alice"):
        await events(dispatcher, call(chat(**{name: "mine"}), tenant=tenant))
        sent.append(remote.said[name])
    assert sent[0] == sent[2] != sent[1]
    assert "mine" not in sent
    assert "alice" not in sent[0]


async def test_what_the_client_left_out_or_set_to_null_is_left_to_the_server() -> None:
    remote = Remote([answer()])
    await events(remote.dispatcher(), call(chat(stop=None)))
    assert remote.said == {"model": REMOTE_MODEL, "messages": [{"role": "user", "content": "hi"}]}


async def test_the_key_goes_along_as_a_bearer_token_and_the_deadline_as_a_header() -> None:
    remote = Remote([answer()])
    await events(remote.dispatcher(), call(deadline_s=2.5))
    headers = remote.requests[0].headers
    assert headers["authorization"] == f"Bearer {SECRET}"
    assert headers["x-castalia-deadline-ms"] == "2500"
    assert remote.requests[0].extensions["timeout"]["read"] == 2.5
    assert remote.requests[0].extensions["timeout"]["connect"] == 2.5


async def test_a_server_that_takes_no_key_gets_none() -> None:
    remote = Remote([answer()])
    await events(remote.dispatcher(secret_env=None), call())
    assert "authorization" not in remote.requests[0].headers


async def test_a_whole_answer_comes_with_the_servers_own_counts_but_for_what_its_cache_had() -> None:
    remote = Remote([answer("Hello there", "Bye")])
    batches = [batch async for batch in remote.dispatcher().stream("far", call(chat(n=2)))]
    found = [event for batch in batches for event in batch]
    assert found[0] == RowEvent(0, Accepted(2))
    assert (text_of(found), text_of(found, 1)) == ("Hello there", "Bye")
    assert [each for each in found if isinstance(each.event, TextDelta)][-2:] == [
        RowEvent(0, TextDelta("", 7, 3)),
        RowEvent(1, TextDelta("", 0, 0)),
    ]
    assert ends_of(found) == [(0, "stop", 10.0), (1, "stop", 0.0)]


async def test_a_stream_is_asked_for_with_its_usage_and_passed_on_as_it_comes() -> None:
    remote = Remote([streamed(*HELLO)])
    batches = [batch async for batch in remote.dispatcher().stream("far", call(stream=True))]
    assert remote.said["stream"] is True
    assert remote.said["stream_options"] == {"include_usage": True}
    assert [text_of(batch) for batch in batches] == ["", "Hel", "lo", ""]
    assert batches[0] == [RowEvent(0, Accepted(1))]
    assert batches[-1][0] == RowEvent(0, TextDelta("", 7, 3))
    assert ends_of(batches[-1]) == [(0, "stop", 10.0)]


async def test_rows_of_a_stream_are_kept_apart_and_counted_once() -> None:
    pieces = [
        chunk("a", row=1),
        chunk("b") + chunk("c", row=1),
        chunk(row=0, reason="length"),
        chunk(row=1, reason="content_filter"),
        USAGE_CHUNK,
        DONE,
    ]
    found = await events(Remote([streamed(*pieces)]).dispatcher(), call(chat(n=2), stream=True))
    assert (text_of(found), text_of(found, 1)) == ("b", "ac")
    assert ends_of(found) == [(0, "length", 10.0), (1, "content_filter", 0.0)]


async def test_completions_of_several_prompts_are_numbered_as_ours_are() -> None:
    choices = [{"index": i, "text": f"t{i}", "finish_reason": "stop"} for i in range(4)]
    remote = Remote([httpx.Response(200, json={"choices": choices})])
    found = await events(remote.dispatcher(), call(completion(prompt=["abcd", "abcdefgh"], n=2)))
    assert [text_of(found, row) for row in range(4)] == ["t0", "t1", "t2", "t3"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_server_that_counts_nothing_is_estimated_by_length(stream: bool) -> None:
    script = (
        streamed(chunk("Hello there!"), chunk(reason="stop"), DONE) if stream else answer("Hello there!", usage=None)
    )
    found = await events(Remote([script]).dispatcher(), call(chat(), stream=stream))
    assert found[-2] == RowEvent(0, TextDelta("", 1, 3))
    assert ends_of(found) == [(0, "stop", 4.0)]


async def test_running_counts_grow_with_the_text_for_those_who_leave_before_the_end() -> None:
    found = await events(Remote([streamed(chunk("1234"), chunk("567"), *HELLO[3:])]).dispatcher(), call(stream=True))
    assert [each.event.completion_tokens for each in found if isinstance(each.event, TextDelta)][:2] == [1, 2]


@pytest.mark.parametrize("stream", [False, True])
async def test_chat_logprobs_come_through(stream: bool) -> None:
    top = [{"token": "Hi", "logprob": -0.5, "bytes": None}, {"token": "Ho", "logprob": -1.5, "bytes": [72, 111]}]
    said = {"content": [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": top}], "refusal": None}
    choice = {"index": 0, "finish_reason": "stop", "logprobs": said}
    whole = httpx.Response(200, json={"choices": [{**choice, "message": {"content": "Hi"}}]})
    script = streamed(event({"choices": [{**choice, "delta": {"content": "Hi"}}]}), DONE) if stream else whole
    found = await events(Remote([script]).dispatcher(), call(chat(logprobs=True, top_logprobs=2), stream=stream))
    (logprob,) = next(each.event.logprobs for each in found if isinstance(each.event, TextDelta)) or ()
    tops = (TokenLogprob("Hi", None, (72, 105), -0.5), TokenLogprob("Ho", None, (72, 111), -1.5))
    assert logprob == TokenLogprob("Hi", None, (72, 105), -0.5, tops)


@pytest.mark.parametrize("offsets", [[0, 3], None])
async def test_completion_logprobs_come_through_with_offsets_where_the_server_gives_none(offsets: Any) -> None:
    logprobs = {
        "tokens": ["One", "☃"],
        "token_logprobs": [None, -2.0],
        "top_logprobs": [None, {"☃": -2.0}],
        "text_offset": offsets,
    }
    choice = {"index": 0, "text": "One☃", "logprobs": logprobs, "finish_reason": "length"}
    remote = Remote([httpx.Response(200, json={"choices": [choice]})])
    found = await events(remote.dispatcher(), call(completion(logprobs=1, echo=True)))
    first, second = next(each.event.logprobs for each in found if isinstance(each.event, TextDelta)) or ()
    assert math.isnan(first.logprob)
    assert (first.offset, second.offset) == (0, 3)
    assert second == TokenLogprob("☃", None, tuple("☃".encode()), -2.0, second.top, 3)
    assert second.top[0].token == "☃"


async def test_a_server_that_streams_though_nobody_asked_and_one_that_does_not_are_both_understood() -> None:
    assert text_of(await events(Remote([streamed(*HELLO)]).dispatcher(), call())) == "Hello"
    assert text_of(await events(Remote([answer("Hello")]).dispatcher(), call(stream=True))) == "Hello"


async def test_a_stream_whose_choices_have_ended_needs_no_done() -> None:
    found = await events(Remote([streamed(*HELLO[:-1])]).dispatcher(), call(stream=True))
    assert ends_of(found) == [(0, "stop", 10.0)]


async def test_a_refusal_in_words_is_the_answer() -> None:
    said = {"choices": [{"message": {"content": None, "refusal": "I will not."}, "finish_reason": "stop"}]}
    assert text_of(await events(Remote([httpx.Response(200, json=said)]).dispatcher(), call())) == "I will not."


TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}]
CALLED = [
    {"role": "user", "content": "hi"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "5"},
]


def called(*pieces: dict[str, Any]) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"tool_calls": list(pieces)}, "finish_reason": None}]})


def piece(index: int | None, arguments: str, identity: str | None = None, name: str | None = None) -> dict[str, Any]:
    function = {"arguments": arguments} | ({} if name is None else {"name": name})
    return ({} if index is None else {"index": index}) | {"id": identity, "type": "function", "function": function}


async def test_tools_choices_and_results_reach_the_server_as_the_client_said_them() -> None:
    remote = Remote([answer()])
    choice = {"type": "function", "function": {"name": "f"}}
    asked = {"messages": CALLED, "tools": TOOLS, "tool_choice": choice, "parallel_tool_calls": False}
    await events(remote.dispatcher(), call(chat(**asked)))
    assert remote.said == {"model": REMOTE_MODEL, **asked}


@pytest.mark.parametrize("reason", ["tool_calls", "stop"])
@pytest.mark.parametrize("stream", [False, True])
async def test_calls_of_tools_come_through_whole_and_in_pieces(stream: bool, reason: str) -> None:
    whole = [piece(None, '{"a":1}', "c1", "f"), piece(None, "{}", "c2", "g")]
    said = {"message": {"content": None, "tool_calls": whole}, "finish_reason": reason}
    pieces = [
        chunk("Let me see."),
        called(piece(0, "", "c1", "f")),
        called(piece(0, '{"a"', "c1")),  # some servers say the id again
        called(piece(0, ":1}"), piece(1, "{}", "c2", "g")),
        chunk(reason=reason),
        USAGE_CHUNK,
        DONE,
    ]
    script = streamed(*pieces) if stream else httpx.Response(200, json={"choices": [said]})
    found = await events(Remote([script]).dispatcher(), call(chat(tools=TOOLS), stream=stream))
    made = [each.event for each in found if isinstance(each.event, ToolCallDelta)]
    assert [(each.index, each.id, each.name) for each in made if each.id] == [(0, "c1", "f"), (1, "c2", "g")]
    assert ["".join(each.arguments for each in made if each.index == i) for i in (0, 1)] == ['{"a":1}', "{}"]
    assert text_of(found) == ("Let me see." if stream else "")
    assert ends_of(found)[0][:2] == (0, "tool_calls")
    assert made[-1].completion_tokens > 0


CUTS = {
    "a call without a name": streamed(called(piece(0, "{}", "c1")), chunk(reason="tool_calls"), DONE),
    "a call too far": streamed(called(piece(1, "{}", "c1", "f")), chunk(reason="tool_calls"), DONE),
    "an end in the middle": streamed(chunk("Hel")),
    "[DONE] in the middle": streamed(chunk("Hel"), DONE),
    "a lost connection": streamed(chunk("Hel"), httpx.ReadError("lost")),
    "an incomplete body": streamed(chunk("Hel"), httpx.RemoteProtocolError("peer closed")),
    "an error event": streamed(chunk("Hel"), event({"error": {"message": f"at {SECRET}", "type": "server_error"}})),
    "an error in words": streamed(chunk("Hel"), event({"error": "CUDA out of memory"})),
    "no JSON": streamed(chunk("Hel"), b"data: {oops\n\n"),
    "another end": streamed(chunk("Hel"), chunk(reason="tool_calls"), DONE),
    "a choice too many": streamed(chunk("Hel"), chunk("x", row=1)),
    "packed bytes": httpx.Response(
        200, headers={"content-type": "text/event-stream", "content-encoding": "br"}, stream=httpx.ByteStream(b"xx")
    ),
}


@pytest.mark.parametrize("cut", CUTS, ids=str)
async def test_a_stream_that_breaks_off_is_a_failure_and_is_not_tried_again(cut: str) -> None:
    remote = Remote([CUTS[cut]])
    with pytest.raises(UpstreamFailed) as failed:
        await events(remote.dispatcher(), call(stream=True))
    assert failed.value.message == "The server behind model 'near' failed to answer."
    assert len(remote.requests) == 1
    assert SECRET not in remote.log.getvalue()


async def test_a_refusal_that_comes_as_an_event_is_still_the_requests_fault() -> None:
    late = event({"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}})
    with pytest.raises(InvalidRequest, match="too long") as refused:
        await events(Remote([streamed(late)]).dispatcher(), call(stream=True))
    assert refused.value.code == "context_length_exceeded"


WRONG = {
    "no JSON": httpx.Response(200, content=b"<html>"),
    "a list": httpx.Response(200, json=[]),
    "no choices": httpx.Response(200, json={"choices": []}),
    "too few choices": answer("one"),
    "no end": answer("a", "b", reason=None),
    "negative counts": answer("a", "b", usage={"prompt_tokens": -1}),
    "an error with status 200": httpx.Response(200, json={"error": {"message": "no"}}),
    "logprobs of different lengths": httpx.Response(
        200,
        json={"choices": [{"index": 0, "text": "a", "logprobs": {"tokens": ["a"]}, "finish_reason": "stop"}]},
    ),
}


@pytest.mark.parametrize("wrong", WRONG, ids=str)
async def test_an_answer_that_is_none_is_the_servers_failure(wrong: str) -> None:
    with pytest.raises(ServiceError) as failed:
        await events(Remote([WRONG[wrong]]).dispatcher(), call(chat(n=2)))
    assert isinstance(failed.value, UpstreamFailed)


async def test_an_endless_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.upstreams.reading.MAX_ANSWER", 1000)
    monkeypatch.setattr("services.gateway.upstreams.reading.MAX_STREAM", 1000)
    for stream in (False, True):
        remote = Remote([streamed(*[chunk("x")] * 100) if stream else answer("x" * 2000)])
        with pytest.raises(UpstreamFailed):
            await events(remote.dispatcher(), call(stream=stream))
        assert "longer than 1000 bytes" in remote.log.getvalue()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_large_answer_is_read_beside_the_event_loop(stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()
    take = AnswerRows.take

    def noted(rows: AnswerRows, remote: RemoteAnswer) -> list[RowEvent]:
        threads.add(threading.get_ident())
        return take(rows, remote)

    monkeypatch.setattr(AnswerRows, "take", noted)
    text = "x" * INLINE_BYTES
    script = streamed(chunk(text, reason="stop"), DONE) if stream else answer(text)
    assert text_of(await events(Remote([script]).dispatcher(), call(stream=stream))) == text
    assert threading.get_ident() not in threads
    assert len(threads) == 1


async def test_the_answers_words_are_in_no_log() -> None:
    remote = Remote([httpx.Response(200, content=json.dumps({"choices": "xyzzy"}).encode())])
    with pytest.raises(UpstreamFailed):
        await events(remote.dispatcher(), call())
    assert "ValidationError" in remote.log.getvalue()
    assert "xyzzy" not in remote.log.getvalue()
