"""What a remote server's failures mean to clients, to other tries and to the circuit breaker."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import httpx
import pytest

from services.gateway.upstreams.failures import retry_after
from shared.errors import DeadlineExceeded, InvalidRequest, Overloaded, RequestTooLarge, UpstreamFailed
from tests.unit.gateway.upstreams.remote import (
    HELLO,
    HOST,
    REMOTE_MODEL,
    SECRET,
    Remote,
    answer,
    call,
    error,
    events,
    streamed,
    text_of,
)


async def failure(remote: Remote, *, stream: bool = False, deadline_s: float = 60.0, **changes: Any) -> Any:
    with pytest.raises(Exception) as failed:
        await events(remote.dispatcher(**changes), call(stream=stream, deadline_s=deadline_s))
    return failed.value


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "kind"), [(400, InvalidRequest), (404, InvalidRequest), (422, InvalidRequest), (413, RequestTooLarge)]
)
async def test_a_refused_request_is_refused_in_the_servers_words_and_once(
    status: int, kind: type[Exception], stream: bool
) -> None:
    remote = Remote([error(status, "temperature is too high", param="temperature", code="bad_value")])
    refused = await failure(remote, stream=stream)
    assert type(refused) is kind
    assert refused.message == "The server behind model 'near' refused the request: temperature is too high"
    assert refused.param == "temperature"
    assert refused.code == ("request_too_large" if status == 413 else "bad_value")
    assert len(remote.requests) == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": "in words"}, "in words"),
        ({"detail": "of FastAPI"}, "of FastAPI"),
        ({"message": "of old vLLM", "object": "error"}, "of old vLLM"),
        ({"detail": [{"loc": ["body"]}]}, "it answered 400."),
        ([1], "it answered 400."),
        ("<html>", "it answered 400."),
    ],
)
async def test_other_servers_spellings_of_an_error_are_read(body: Any, words: str) -> None:
    assert (await failure(Remote([httpx.Response(400, json=body)]))).message.endswith(f"request: {words}")


async def test_a_refusal_tells_nothing_of_the_account_the_address_or_the_servers_own_names() -> None:
    words = (
        f"Model {REMOTE_MODEL} at https://{HOST}/v1/chat refused key {SECRET} of sk-proj-abc123,\n\x1b[31msee {HOST}. "
        + "x" * 2000
    )
    remote = Remote([error(400, words, param="https://x?y", code="Bad Code")])
    refused = await failure(remote)
    assert "Model near at [hidden] refused key [hidden] of [hidden], [31msee [hidden]" in refused.message
    assert len(refused.message) < 600
    assert (refused.param, refused.code) == (None, "invalid_value")


@pytest.mark.parametrize("status", [401, 402, 403, 301, 405, 418])
async def test_an_account_that_the_server_refuses_is_our_failure_and_no_clients_business(status: int) -> None:
    remote = Remote([error(status, f"Incorrect API key {SECRET}", code="invalid_api_key")])
    failed = await failure(remote)
    assert (type(failed), failed.status, failed.code) == (UpstreamFailed, 503, "upstream_failed")
    assert failed.message == "The server behind model 'near' failed to answer."
    assert len(remote.requests) == 1
    assert f"status {status}" in remote.log.getvalue()


async def test_no_redirect_is_followed_with_the_key() -> None:
    remote = Remote([httpx.Response(307, headers={"location": "https://evil.example/"})])
    await failure(remote)
    assert [request.url.host for request in remote.requests] == [HOST]


@pytest.mark.parametrize("first", [408, 409, 425, 429, 500, 502, 503, 529])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_may_go_better_is_tried_again_before_the_first_byte(first: int, stream: bool) -> None:
    remote = Remote([error(first), httpx.ConnectError("no"), streamed(*HELLO) if stream else answer("Hello")])
    assert text_of(await events(remote.dispatcher(), call(stream=stream))) == "Hello"
    assert len(remote.requests) == 3
    assert len(remote.slept) == 2


@pytest.mark.parametrize(
    "lost", [httpx.ConnectError("a"), httpx.ConnectTimeout("b"), httpx.ReadError("c"), httpx.RemoteProtocolError("d")]
)
async def test_a_connection_that_is_lost_before_the_answer_is_tried_again(lost: Exception) -> None:
    remote = Remote([lost, answer("Hello")])
    assert text_of(await events(remote.dispatcher(), call())) == "Hello"


async def test_pauses_grow_are_random_and_bounded() -> None:
    remote = Remote([error(500)])
    retries = {"attempts": 6, "base_s": 1, "longest_s": 4}
    await failure(remote, retries=retries, breaker={"failures": 100})
    assert len(remote.requests) == 6
    assert all(0 < slept <= most for slept, most in zip(remote.slept, [1, 2, 4, 4, 4], strict=True))
    assert len(set(remote.slept)) == 5


async def test_the_server_is_not_tried_sooner_than_it_asks_for() -> None:
    remote = Remote([error(429, headers={"retry-after": "3"}), answer("Hello")])
    assert text_of(await events(remote.dispatcher(), call())) == "Hello"
    assert remote.slept == [3]


@pytest.mark.parametrize(("asked", "deadline_s"), [("9", 60.0), ("3", 2.0)])
async def test_a_server_that_asks_for_more_patience_than_there_is_is_left_alone(asked: str, deadline_s: float) -> None:
    remote = Remote([error(429, "you, org-1234, are limited", headers={"retry-after": asked})])
    failed = await failure(remote, deadline_s=deadline_s)
    assert (type(failed), failed.status, failed.code) == (Overloaded, 503, "server_is_overloaded")
    assert failed.message == "The server behind model 'near' is at its limit."
    assert failed.retry_after == float(asked)
    assert (len(remote.requests), remote.slept) == (1, [])


async def test_an_account_without_credit_is_not_tried_again() -> None:
    remote = Remote([error(429, code="insufficient_quota")])
    assert (await failure(remote)).status == 503
    assert len(remote.requests) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Mon, 01 Jan 2001 00:00:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_date_in_retry_after_is_counted_from_now() -> None:
    seconds = retry_after({"retry-after": formatdate(4102444800, usegmt=True)})
    assert seconds is not None
    assert seconds > 1e6


async def test_an_answer_that_is_late_by_the_requests_own_deadline_is_no_fault_of_the_server() -> None:
    remote = Remote([httpx.ReadTimeout("late")])

    def takes_long(_: httpx.Request) -> httpx.Response:
        remote.now += 5
        raise httpx.ReadTimeout("late")

    remote.scripts = [takes_long]
    dispatcher = remote.dispatcher(breaker={"failures": 1})
    for _ in range(3):
        with pytest.raises(DeadlineExceeded):
            await events(dispatcher, call(deadline_s=5))
    assert len(remote.requests) == 3


async def test_a_server_that_falls_silent_before_the_deadline_has_failed() -> None:
    remote = Remote([httpx.ReadTimeout("silent")])
    dispatcher = remote.dispatcher(breaker={"failures": 1}, timeouts={"silence_s": 9})
    with pytest.raises(UpstreamFailed):
        await events(dispatcher, call(stream=True))
    assert remote.requests[0].extensions["timeout"]["read"] == 9
    with pytest.raises(UpstreamFailed):
        await events(dispatcher, call(stream=True))
    assert len(remote.requests) == 1, "the circuit is open"


async def test_nothing_is_sent_once_the_deadline_is_over() -> None:
    remote = Remote([answer()])
    assert isinstance(await failure(remote, deadline_s=0), DeadlineExceeded)
    assert remote.requests == []


async def test_a_refusal_too_long_to_read_is_judged_by_its_status() -> None:
    refused = await failure(Remote([httpx.Response(400, content=b"x" * 70_000)]))
    assert isinstance(refused, InvalidRequest)
    assert refused.message.endswith("it answered 400.")


async def test_a_stream_that_goes_on_after_its_deadline_is_ended() -> None:
    remote = Remote([streamed(*HELLO)])
    stream = remote.dispatcher().stream("far", call(stream=True, deadline_s=5))
    await anext(stream)  # Accepted
    await anext(stream)
    remote.now += 6
    with pytest.raises(DeadlineExceeded):
        await anext(stream)
