"""Headers with which a client could steer Ray Serve never reach it."""

from __future__ import annotations

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from services.gateway.ingress import middlewares


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the request's header names; add ids as the gateway and then Ray do."""
    names = b" ".join(sorted(name for name, _ in scope["headers"]))
    ids = [(b"x-request-id", b"ours"), (b"content-type", b"text/plain"), (b"X-Request-ID", b"rays")]
    await send({"type": "http.response.start", "status": 200, "headers": ids})
    await send({"type": "http.response.body", "body": names})


def wrapped() -> httpx.AsyncClient:
    (middleware,) = middlewares()
    transport = httpx.ASGITransport(middleware.cls(echo, *middleware.args, **middleware.kwargs))
    return httpx.AsyncClient(transport=transport, base_url="http://gateway")


@pytest.mark.parametrize(
    "name",
    [
        "x-request-timeout-seconds",
        "X-Request-Disconnect-Disabled",
        "serve_multiplexed_model_id",
        "serve-multiplexed-model-id",
        "x-session-id",
        "X_Session_Id",
        "x-serve-router-replica",
        "x-request-id",
    ],
)
async def test_a_steering_header_is_dropped(name: str) -> None:
    async with wrapped() as client:
        response = await client.get("/", headers={name: b"\xff?1", "x-kept": "1"})
    names = response.text.split()
    assert name.lower() not in names
    assert {"host", "x-kept"} <= set(names)


async def test_the_gateways_own_request_id_is_the_only_one() -> None:
    async with wrapped() as client:
        response = await client.get("/")
    assert response.headers.get_list("x-request-id") == ["ours"]
    assert response.headers["content-type"] == "text/plain"


async def test_what_is_not_http_passes_untouched() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    (middleware,) = middlewares()
    scope = {"type": "lifespan"}
    await middleware.cls(app)(scope, None, None)  # type: ignore[arg-type]
    assert seen == [scope]
