"""What never reaches Ray Serve: steering headers, headers without measure, WebSockets, bodies that nobody reads."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.ingress import MAX_HEADERS, Bound, middlewares
from tests.unit.gateway.conftest import Serve


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the request's header names; add ids as the gateway and then Ray do."""
    names = b" ".join(sorted(name for name, _ in scope["headers"]))
    ids = [(b"x-request-id", b"ours"), (b"content-type", b"text/plain"), (b"X-Request-ID", b"rays")]
    await send({"type": "http.response.start", "status": 200, "headers": ids})
    await send({"type": "http.response.body", "body": names})


def guarded(app: ASGIApp) -> ASGIApp:
    """As Ray Serve wraps it."""
    for middleware in middlewares():
        app = middleware.cls(app, *middleware.args, **middleware.kwargs)
    return app


def wrapped() -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(guarded(echo)), base_url="http://gateway")


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


async def test_what_is_not_of_a_client_passes_untouched() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    scope = {"type": "lifespan"}
    await guarded(app)(scope, None, None)  # type: ignore[arg-type]
    assert seen == [scope]


async def test_a_websocket_is_closed_before_ray_hears_of_it() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError(scope)

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await guarded(app)({"type": "websocket", "path": "/", "headers": []}, None, send)  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close"}]


@pytest.mark.parametrize("kind", ["one header", "many headers", "the path"])
async def test_headers_beyond_measure_are_refused_where_no_haproxy_did(kind: str) -> None:
    length = MAX_HEADERS // 2
    headers = {"one header": {"x": "a" * MAX_HEADERS}, "many headers": {f"x{i}": "a" * 64 for i in range(300)}}
    path = "/?" + "a" * length + "&" + "b" * length if kind == "the path" else "/"
    async with wrapped() as client:
        refused = await client.get(path, headers=headers.get(kind))
        taken = await client.get("/", headers={"x": "a" * length})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "headers_too_large"
    assert refused.headers["connection"] == "close"
    assert taken.status_code == 200


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer without having read anything, as where a key is missing."""
    await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"no"})


async def last_words(url: str, data: bytes) -> bytes:
    """What a server says to this until it ends the connection, which it must."""
    target = httpx.URL(url)
    reader, writer = await asyncio.open_connection(target.host, target.port)
    writer.write(data)
    await writer.drain()
    said = await reader.read()
    writer.close()
    return said


POST = b"POST / HTTP/1.1\r\nhost: a\r\n"


async def test_an_unread_body_that_never_ends_ends_with_its_connection(serve: Serve) -> None:
    url = await serve(Bound(refuse, linger_s=0.05))
    said = await last_words(url, POST + b"content-length: 100\r\n\r\na")
    assert said.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in said
    assert said.endswith(b"no")


async def test_a_client_that_sends_all_before_it_reads_gets_the_refusal_of_its_body(serve: Serve) -> None:
    """8 MiB are more than what sockets hold: who closes at once resets the connection, and the answer is lost."""
    url = await serve(Bound(refuse))
    size = 2**23
    said = await last_words(url, POST + b"content-length: %d\r\n\r\n" % size + b"a" * size)
    assert said.endswith(b"no")


async def test_a_connection_whose_body_was_read_goes_on(serve: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await refuse(scope, receive, send)

    target = httpx.URL(await serve(Bound(app)))
    reader, writer = await asyncio.open_connection(target.host, target.port)
    for data in (POST + b"content-length: 1\r\n\r\na", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", POST + b"\r\n"):
        writer.write(data)
        assert b"connection: close" not in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(2) == b"no"
    writer.close()


async def test_nobody_holds_the_body_of_a_method_that_has_none() -> None:
    """Ray takes in all that comes until the answer is there, and that may take its time."""
    held: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        held.append((await receive())["body"])
        await refuse(scope, receive, send)

    transport = httpx.ASGITransport(guarded(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        await client.request("GET", "/readyz", content=b"a" * 100)
        await client.request("POST", "/", content=b"a" * 100)
    assert held == [b"", b"a" * 100]
