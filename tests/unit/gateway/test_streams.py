"""When a stream's headers go out, what keeps it alive, how it breaks, and what a disconnect frees."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.dispatcher import ReplicaLost
from services.gateway.state import Tempo
from shared.errors import ContextTooLong, InternalError, Overloaded
from shared.events import Accepted, Failed, Finished, RowEvent, Started
from shared.reports import ModelState
from tests.unit.gateway.conftest import Serve
from tests.unit.gateway.fakes import (
    ACCEPTED,
    STOPPED,
    FakeDispatcher,
    Gateway,
    chat,
    events_of,
    fail_with,
    make_gateway,
    play,
    report,
    text,
)

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_refusal_before_the_first_event_keeps_its_status(stream: bool) -> None:
    refusal = Failed.of(ContextTooLong(limit=64, got=100, param="messages"))
    gateway = make_gateway(FakeDispatcher(fail_with(refusal)))
    async with gateway.client() as client:
        response = await client.post(CHAT, json=chat(stream=stream))
    assert response.status_code == 400
    assert response.json() == {
        "error": {
            "message": "This model's maximum context length is 64 tokens; got 100.",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        }
    }


def _watching(app: ASGIApp, needle: bytes, count: int, then: asyncio.Event) -> httpx.AsyncClient:
    """A client of the application that sets `then` once `needle` was sent so many times."""
    seen = 0

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        async def look(message: Message) -> None:
            nonlocal seen
            seen += message.get("body", b"").count(needle)
            if seen >= count:
                then.set()
            await send(message)

        await app(scope, receive, look)

    return httpx.AsyncClient(transport=httpx.ASGITransport(watched), base_url="http://gateway")


@pytest.mark.parametrize(("state", "comment"), [("loading", b": loading\n\n"), ("ready", b": ping\n\n")])
async def test_a_slow_first_event_brings_headers_and_a_comment(state: ModelState, comment: bytes) -> None:
    go = asyncio.Event()
    script = play(go, ACCEPTED, text("late"), STOPPED)
    gateway = make_gateway(FakeDispatcher(script), tempo=Tempo(header_hold_s=0.0))
    gateway.dispatcher.known["chat"] = [report(state=state)]
    await gateway.state.board.fresh(["chat"])
    async with _watching(gateway.app, comment, 1, go) as client:
        response = await client.post(CHAT, json=chat(stream=True))
    assert response.status_code == 200
    assert response.content.startswith(comment)
    assert events_of(response.text)[-1] == "[DONE]"


async def test_an_idle_stream_is_kept_alive_by_pings() -> None:
    go = asyncio.Event()
    script = play(ACCEPTED, text("a"), go, STOPPED)
    gateway = make_gateway(FakeDispatcher(script), tempo=Tempo(header_hold_s=0.001), ping_s=0.001)
    async with _watching(gateway.app, b": ping\n\n", 3, go) as client:
        response = await client.post(CHAT, json=chat(stream=True))
    assert response.text.count(": ping\n\n") >= 3
    assert events_of(response.text)[-1] == "[DONE]"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_fault_before_the_first_byte_is_a_500(stream: bool) -> None:
    gateway = make_gateway(FakeDispatcher(play(RuntimeError("secret path /srv/weights"))))
    async with gateway.client() as client:
        response = await client.post(CHAT, json=chat(stream=stream))
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    assert "secret" not in response.text


async def test_a_refusal_after_the_headers_is_an_error_event_without_done(serve: Serve) -> None:
    go = asyncio.Event()
    gateway = make_gateway(
        FakeDispatcher(play(go, [RowEvent(0, Failed.of(Overloaded("full")))])), tempo=Tempo(header_hold_s=0.0)
    )
    url = await serve(gateway.app)
    async with httpx.AsyncClient(base_url=url) as client, client.stream("POST", CHAT, json=chat(stream=True)) as answer:
        assert answer.status_code == 200
        go.set()
        received = await _read_until_cut(answer)
    assert events_of(received.decode())[-1]["error"]["code"] == "server_is_overloaded"


@pytest.mark.parametrize(
    ("breakage", "code"),
    [
        (ReplicaLost("killed"), "server_is_overloaded"),
        (RuntimeError("secret path /srv/weights"), "internal_error"),
        ([RowEvent(0, Failed.of(InternalError()))], "internal_error"),
        ([], "server_is_overloaded"),  # the replica ended the stream before the row
    ],
)
async def test_a_failure_after_the_first_byte_cuts_the_connection(serve: Serve, breakage: object, code: str) -> None:
    gateway = make_gateway(FakeDispatcher(play(ACCEPTED, text("one"), breakage)))  # type: ignore[arg-type]
    url = await serve(gateway.app)
    async with httpx.AsyncClient(base_url=url) as client, client.stream("POST", CHAT, json=chat(stream=True)) as answer:
        received = await _read_until_cut(answer)
    *_, error = events_of(received.decode())
    assert error["error"]["code"] == code
    assert set(error["error"]) == {"message", "type", "param", "code"}
    assert b"[DONE]" not in received
    assert b"secret" not in received
    assert gateway.log_lines()[-1]["cut"] is True
    assert gateway.dispatcher.open == 0


async def _read_until_cut(answer: httpx.Response) -> bytes:
    """What came before the connection broke; fails if it ended well."""
    received: list[bytes] = []

    async def read() -> None:
        async for data in answer.aiter_raw():
            received.append(data)

    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        await read()
    return b"".join(received)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_away_frees_the_replica(serve: Serve, stream: bool) -> None:
    gateway = make_gateway(FakeDispatcher(play(ACCEPTED, text("one"), asyncio.Event())))
    url = await serve(gateway.app)
    async with httpx.AsyncClient(base_url=url) as client:
        asking = asyncio.create_task(_read_on(client, chat(stream=stream)))
        await gateway.dispatcher.opened.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    await gateway.dispatcher.closed.wait()
    assert gateway.dispatcher.open == 0
    assert gateway.log_lines("stream_failed") == []


async def _read_on(client: httpx.AsyncClient, body: object) -> None:
    async with client.stream("POST", CHAT, json=body) as answer:
        async for _ in answer.aiter_raw():
            pass


@pytest.mark.parametrize("has_begun", [True, False])
async def test_a_disconnect_is_logged_as_499_and_not_as_a_failure(gateway: Gateway, has_begun: bool) -> None:
    gateway.dispatcher.default = play(ACCEPTED, text("one"), asyncio.Event()) if has_begun else play(asyncio.Event())
    body = b'{"model": "tiny", "stream": true, "messages": [{"role": "user", "content": "x"}]}'
    messages = [{"type": "http.request", "body": body}]
    sent: list[dict[str, object]] = []
    leave = asyncio.Event()

    async def receive() -> dict[str, object]:
        if messages:
            return messages.pop()
        await (leave if has_begun else gateway.dispatcher.opened).wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)
        if message["type"] == "http.response.body":
            leave.set()

    scope = {
        "type": "http",
        "method": "POST",
        "path": CHAT,
        "raw_path": CHAT.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"application/json")],
    }
    await gateway.app(scope, receive, send)  # type: ignore[arg-type]
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"] * has_begun
    assert gateway.log_lines()[-1]["status"] == 499
    assert gateway.log_lines("stream_failed") == []
    assert gateway.dispatcher.open == 0


async def test_a_request_that_the_server_cancels_is_freed_and_logged(gateway: Gateway) -> None:
    gateway.dispatcher.default = play(ACCEPTED, text("one"), asyncio.Event())
    async with gateway.client() as client:
        asking = asyncio.create_task(client.post(CHAT, json=chat(stream=True)))
        await gateway.dispatcher.opened.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert gateway.dispatcher.open == 0
    assert gateway.log_lines()[-1]["status"] == 499


async def test_the_first_text_is_timed(gateway: Gateway) -> None:
    async with gateway.client() as client:
        await client.post(CHAT, json=chat(stream=True))
    assert gateway.log_lines()[-1]["first_chunk_ms"] >= 0
    assert (
        b'castalia_time_to_first_chunk_seconds_count{family="transformer",gateway="",model="tiny"} 1.0'
        in gateway.state.metrics.render([])
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_how_long_the_slowest_row_waited_in_the_queue_is_told_and_logged(gateway: Gateway, stream: bool) -> None:
    begun = [RowEvent(0, Started(0.25)), *text("one"), RowEvent(1, Started(1.5)), *text("two", row=1)]
    ends = [RowEvent(row, Finished("stop", 1.0)) for row in (0, 1)]
    gateway.dispatcher.default = play([RowEvent(0, Accepted(2))], begun, ends)
    async with gateway.client() as client:
        response = await client.post(CHAT, json=chat(stream=stream, n=2))
    assert response.status_code == 200
    assert response.headers["server-timing"] == "queue;dur=1500.0"
    assert gateway.log_lines()[-1]["queued_ms"] == 1500.0


async def test_what_never_waited_in_a_queue_has_no_time_there(gateway: Gateway) -> None:
    async with gateway.client() as client:
        response = await client.post(CHAT, json={})
    assert "server-timing" not in response.headers
    assert gateway.log_lines()[-1]["queued_ms"] is None
