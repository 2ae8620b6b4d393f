"""Owns what Ray Serve must not learn from clients, and what they must not do to it. Runs before Ray reads a request.

Ray's HTTP server reads, ahead of the application: `x-request-timeout-seconds` (a time limit of the client's choosing,
answered by a bare 408, or no limit), `x-request-disconnect-disabled` (do not watch for disconnects),
`serve_multiplexed_model_id` and `x-session-id` (routing), `x-request-id` (echoed, and written to Ray's logs), and
`x-serve-router-*` (trusted routing results). It also fails on values that are not UTF-8. And it holds as much of a body
as comes, read or not, until the answer is complete.

Ray calls `middlewares`, behind HAProxy and in its own proxy alike, where the environment holds
`RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=services.gateway.ingress:middlewares`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.problems import error_body
from shared.errors import InvalidRequest
from shared.events import Failed

STEERING = frozenset(
    {
        b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
        b"serve-multiplexed-model-id",
        b"x-session-id",
        b"x-request-id",
    }
)
STEERING_PREFIX = b"x-serve-router-"
REQUEST_ID = b"x-request-id"
BODILESS = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})  # nothing here reads a body of theirs

MAX_HEADERS = 16 * 1024  # bytes of the path and of all headers. HAProxy takes no more; Ray's own proxy takes any number
LINGER_S = 5.0  # how long a client may go on sending what nobody reads: cut off at once, it might miss the answer


class StripSteering:
    """Drops those headers from requests, and all but the application's own `x-request-id` from responses."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_one_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _with_first_id(message.get("headers", ()))}
            await send(message)

        headers = [(name, value) for name, value in scope["headers"] if not _steers(name)]
        await self._app({**scope, "headers": headers}, receive, send_one_id)


class Bound:
    """Refuses WebSockets and headers without measure; ends the connection of a body that is not read to its end."""

    def __init__(self, app: ASGIApp, *, linger_s: float = LINGER_S) -> None:
        self._app = app
        self._linger_s = linger_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
        elif (size := _size_of_headers(scope)) > MAX_HEADERS:
            await _refuse_headers(send, size)
        else:
            exchange = _Exchange(scope, receive, send)
            await self._app(scope, exchange.receive, exchange.send)
            await exchange.end(self._linger_s)


class _Exchange:
    """One request and its answer. The answer's end is held back until the body's, if only for so long."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        names = {name for name, value in scope["headers"] if (name, value) != (b"content-length", b"0")}
        self._receive = receive
        self._send = send
        self._ignores_body = scope["method"] in BODILESS
        self._is_read = names.isdisjoint({b"content-length", b"transfer-encoding"})
        self._last: Message | None = None

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._is_read = True
        return {**message, "body": b""} if self._ignores_body and message["type"] == "http.request" else message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and not self._is_read:
            message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if is_last and not self._is_read:
            self._last = {"type": "http.response.body", "body": b"", "more_body": False}
            message = {**message, "more_body": True}
        await self._send(message)

    async def end(self, linger_s: float) -> None:
        """Let what the client still sends go by, then complete the answer, which closes the connection."""
        if self._last is None:
            return
        try:
            async with asyncio.timeout(linger_s):
                while not self._is_read:
                    await self.receive()
        except TimeoutError:
            pass
        await self._send(self._last)


def middlewares() -> list[Middleware]:
    """What Ray Serve wraps its HTTP server's application in, outermost last."""
    return [Middleware(StripSteering), Middleware(Bound)]


def _steers(name: bytes) -> bool:
    """Ray takes dashes and underscores for each other, in some of the names; so all are compared alike."""
    plain = name.lower().replace(b"_", b"-")
    return plain in STEERING or plain.startswith(STEERING_PREFIX)


def _with_first_id(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The application's comes first: Ray appends its own."""
    kept: list[tuple[bytes, bytes]] = []
    is_seen = False
    for name, value in headers:
        is_id = name.lower() == REQUEST_ID
        if not (is_id and is_seen):
            kept.append((name, value))
        is_seen = is_seen or is_id
    return kept


def _size_of_headers(scope: Scope) -> int:
    sizes = (len(name) + len(value) for name, value in scope["headers"])
    return sum(sizes) + len(scope["path"]) + len(scope["query_string"])


async def _refuse_headers(send: Send, size: int) -> None:
    message = f"The request's path and headers may be at most {MAX_HEADERS} bytes; got {size}."
    body = error_body(Failed.of(InvalidRequest(message, code="headers_too_large")))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": InvalidRequest.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
