"""What a load does not bring about by itself is counted as it happens, and is tried again where it has not."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator

import httpx
import pytest

from loadtests.observed import trouble
from loadtests.observed.fleet import Observed
from loadtests.observed.trouble import QUEUE, make_trouble

FLEET = Observed("http://x", [], big="big", small="small", scraper="scraper")
TEXT = b'data: {"choices": [{"text": "a", "finish_reason": null}]}\n\n'
LATE = b'data: {"error": {"message": "late", "code": "deadline_exceeded"}}\n\n'


class Gateway:
    """Refuses as a fleet would; a queue is there from the first look at it on, and lasts until something was late."""

    def __init__(self, *, cuts_from: int = 0) -> None:
        self._cuts_from = cuts_from
        self._refused = asyncio.Event()
        self.late = 0
        self.has_cut = threading.Event()
        self.asked: list[tuple[str, str | None]] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        key, deadline = request.headers["authorization"].split()[1], request.headers.get("x-castalia-deadline-ms")
        self.asked.append((key, deadline))
        if body.get("stream"):
            return httpx.Response(200, content=self._stream(deadline))
        if body["n"] == QUEUE:
            await self._refused.wait()
        elif deadline is not None:
            self._refused.set()
            return httpx.Response(503)
        return httpx.Response({"big": 200, "small": 429}.get(key, 401))

    async def _stream(self, deadline: str | None) -> AsyncIterator[bytes]:
        yield TEXT
        if deadline is not None:
            self.late += 1
            if self.late > self._cuts_from:
                self.has_cut.set()
                yield LATE


def is_over() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trouble, "POLL_S", 0.01)
    monkeypatch.setattr(trouble, "ROUND_S", 0.02)


async def test_one_round_has_all_kinds_of_trouble() -> None:
    troubles = await make_trouble(FLEET, is_over(), transport=httpx.MockTransport(Gateway()))
    assert troubles.statuses == {429: 3, 401: 1, 503: 1, 200: 1}
    assert (troubles.given_up, troubles.cut, troubles.overloaded) == (1, 1, 1)


async def test_a_stream_that_keeps_its_deadline_is_asked_for_again_until_one_is_cut() -> None:
    gateway = Gateway(cuts_from=1)
    troubles = await make_trouble(FLEET, gateway.has_cut, transport=httpx.MockTransport(gateway))
    assert (gateway.late, troubles.cut, troubles.overloaded) == (2, 1, 1)
    assert troubles.given_up == 2
