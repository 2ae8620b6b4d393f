"""Owns what Ray Serve must not learn from clients: request headers that steer it. Runs before Ray reads them.

Ray's HTTP server reads, ahead of the application: `x-request-timeout-seconds` (a time limit of the client's choosing,
answered by a bare 408, or no limit), `x-request-disconnect-disabled` (do not watch for disconnects),
`serve_multiplexed_model_id` and `x-session-id` (routing), `x-request-id` (echoed, and written to Ray's logs), and
`x-serve-router-*` (trusted routing results). It also fails on values that are not UTF-8. Ray calls `middlewares` where
the environment holds `RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=services.gateway.ingress:middlewares`.
"""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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


def middlewares() -> list[Middleware]:
    """What Ray Serve wraps its HTTP server's application in, outermost last."""
    return [Middleware(StripSteering)]


def _steers(name: bytes) -> bool:
    """Ray takes dashes and underscores for each other, in some of the names; so all are compared alike."""
    plain = name.lower().replace(b"_", b"-")
    return plain in STEERING or plain.startswith(STEERING_PREFIX)


def _with_first_id(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The application's comes first: Ray appends its own."""
    kept: list[tuple[bytes, bytes]] = []
    is_seen = False
    for name, value in headers:
        is_id = name.lower() == REQUEST_ID
        if not (is_id and is_seen):
            kept.append((name, value))
        is_seen = is_seen or is_id
    return kept
