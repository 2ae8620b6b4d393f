"""Bodies as they arrive: too large, too slow, or never whole."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from services.gateway.state import Tempo
from tests.bad_input import CHAT
from tests.unit.gateway.fakes import Clock, Gateway, chat, make_gateway


async def test_a_declared_length_over_the_limit_is_refused_unread() -> None:
    gateway = make_gateway(max_body=1000)
    was_read = False

    async def body() -> Any:
        nonlocal was_read
        was_read = True
        yield b"x"

    headers = {"content-type": "application/json", "content-length": "10000000"}
    async with gateway.client() as client:
        response = await client.post(CHAT, content=body(), headers=headers)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "request_too_large"
    assert response.json()["error"]["message"] == "The request body may be at most 1000 bytes; got 10000000."
    assert not was_read


async def test_an_undeclared_body_is_refused_once_it_passes_the_limit() -> None:
    gateway = make_gateway(max_body=1000)
    sent = 0

    async def body() -> Any:
        nonlocal sent
        for _ in range(100):
            sent += 100
            yield b"x" * 100

    async with gateway.client() as client:
        response = await client.post(CHAT, content=body(), headers={"content-type": "application/json"})
    assert response.status_code == 413
    assert "more than 1000" in response.json()["error"]["message"]


async def test_a_body_that_never_arrives_meets_the_deadline() -> None:
    async def body() -> Any:
        yield b"{"
        await asyncio.Event().wait()

    gateway = make_gateway(timeout_s=0.01)
    async with gateway.client() as client:
        response = await client.post(CHAT, content=body(), headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")


async def test_a_body_that_takes_the_whole_deadline_is_not_sent_on() -> None:
    clock = Clock()

    async def body() -> Any:
        clock.seconds += 3
        yield json.dumps(chat()).encode()

    gateway = make_gateway(tempo=Tempo(clock=clock))
    headers = {"content-type": "application/json", "x-castalia-deadline-ms": "3000"}
    async with gateway.client() as client:
        response = await client.post(CHAT, content=body(), headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert gateway.dispatcher.calls == []


async def test_a_client_that_leaves_while_sending_is_logged_as_499(gateway: Gateway) -> None:
    messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, object]:
        return messages.pop(0)

    async def send(message: object) -> None:
        raise AssertionError(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": CHAT, "query_string": b"", "root_path": "", "headers": headers}
    await gateway.app(scope, receive, send)  # type: ignore[arg-type]
    assert gateway.log_lines()[-1]["status"] == 499
