"""Bodies as they arrive: too large, too slow, or never whole."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from services.gateway.bodies import BodyBudget
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


async def test_a_body_that_comes_too_slowly_is_refused_and_not_as_a_fault_that_clients_try_again() -> None:
    async def body() -> Any:
        yield b"{"
        await asyncio.Event().wait()

    gateway = make_gateway(body_timeout_s=0.01)
    async with gateway.client() as client:
        response = await client.post(CHAT, content=body(), headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "request_timeout")
    assert gateway.dispatcher.calls == []


async def test_a_large_body_may_take_longer_if_it_keeps_coming() -> None:
    """Three times the time that a small one has: 256 KiB earn it four seconds more."""
    data = json.dumps(chat()).encode()

    async def body() -> Any:
        yield b" " * 2**18
        await asyncio.sleep(0.15)
        yield data

    gateway = make_gateway(body_timeout_s=0.05)
    async with gateway.client() as client:
        response = await client.post(CHAT, content=body(), headers={"content-type": "application/json"})
    assert response.status_code == 200


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


async def test_bodies_on_their_way_are_held_within_one_budget_and_then_no_more() -> None:
    """What is admitted by number alone could fill the memory: each may be as large as the limit."""
    gateway = make_gateway()
    gateway.state.bodies = BodyBudget(1000)
    rest, begun = asyncio.Event(), asyncio.Event()

    async def slow() -> Any:
        yield b" " * 600
        begun.set()
        await rest.wait()
        yield json.dumps(chat()).encode()

    headers = {"content-type": "application/json"}
    async with gateway.client() as client:
        first = asyncio.create_task(client.post(CHAT, content=slow(), headers=headers))
        await begun.wait()
        refused = await client.post(CHAT, content=b" " * 600, headers=headers)
        small = await client.post(CHAT, json=chat())
        rest.set()
        assert (await first).status_code == small.status_code == 200
        again = await client.post(CHAT, content=b" " * 600 + json.dumps(chat()).encode(), headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_is_overloaded")
    assert "retry-after" in refused.headers
    assert again.status_code == 200
    assert gateway.state.bodies.held == 0
