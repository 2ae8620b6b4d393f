"""Owns what a load does not bring about by itself: refusals of every kind, streams that are given up or cut, a queue.

All of it asks for short stories, by completions of one small model. A part that takes a fleet in a certain state (idle,
or with a queue) is tried again until it has happened, as `Troubles` tells.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from loadtests.observed.fleet import Observed
from loadtests.sse import StreamFailed, TextStream

PATH, MODEL = "/v1/completions", "story-gpt"
# Over 64 tokens, which are read once for all of a tenant's requests; it and a long answer fit the context of 256.
PROMPT = "Once upon a time there was a little fox who lived in a wood beside a river. " * 4
SHORT, LONG = 8, 150  # tokens of an answer
ROUND_S = 10.0
LATE_S = 0.25  # a deadline that a long answer does not keep
QUEUE = 96  # rows in one request, for a batch of 16
QUEUED_S = 0.05  # a deadline that nothing keeps behind them
POLL_S = 0.5
PATIENCE_S = 120.0


@dataclass(slots=True)
class Troubles:
    """What came of it: how often each status, how many streams were given up, and how many cut at their deadline."""

    statuses: Counter[int] = field(default_factory=Counter[int])
    given_up: int = 0
    cut: int = 0
    overloaded: int = 0


async def make_trouble(
    fleet: Observed, is_over: threading.Event, *, transport: httpx.AsyncBaseTransport | None = None
) -> Troubles:
    """Rounds of it until it is over, and one at least. Raises httpx.HTTPError."""
    troubles = Troubles()
    async with httpx.AsyncClient(
        base_url=fleet.url, transport=transport, trust_env=False, timeout=PATIENCE_S
    ) as client:
        while True:
            began = time.monotonic()
            await _round(client, fleet, troubles)
            if await asyncio.to_thread(is_over.wait, max(0.0, began + ROUND_S - time.monotonic())):
                return troubles


async def _round(client: httpx.AsyncClient, fleet: Observed, troubles: Troubles) -> None:
    await _give_up(client, fleet.big, troubles)
    if not troubles.cut:
        await _be_late(client, fleet.big, troubles)
    keys = (fleet.small, fleet.small, fleet.small, "sk-nobody-has-this-key")
    troubles.statuses.update(await asyncio.gather(*(_ask(client, key) for key in keys)))
    if not troubles.overloaded:
        await _overload(client, fleet.big, troubles)


async def _be_late(client: httpx.AsyncClient, key: str, troubles: Troubles) -> None:
    """One stream that its deadline cuts: while a model is idle, nothing is predicted of it."""
    stream = TextStream(started=time.perf_counter())
    body, headers = _body(LONG, stream=True), _headers(key, LATE_S)
    try:
        async with client.stream("POST", PATH, json=body, headers=headers) as response:
            async for data in response.aiter_raw():
                stream.feed(data, time.perf_counter())
    except (StreamFailed, httpx.RemoteProtocolError):
        troubles.cut += stream.first_text is not None


async def _give_up(client: httpx.AsyncClient, key: str, troubles: Troubles) -> None:
    """One stream whose client goes away after its first bytes."""
    async with client.stream("POST", PATH, json=_body(LONG, stream=True), headers=_headers(key)) as response:
        async for _ in response.aiter_raw():
            break
        troubles.given_up += response.status_code == 200


async def _overload(client: httpx.AsyncClient, key: str, troubles: Troubles) -> None:
    """A queue, and what would be late behind it."""
    queue = asyncio.ensure_future(_ask(client, key, rows=QUEUE, tokens=LONG))
    while not queue.done():
        await asyncio.sleep(POLL_S)
        status = await _ask(client, key, deadline_s=QUEUED_S)
        troubles.statuses[status] += 1
        troubles.overloaded += status == 503
        if troubles.overloaded:
            break
    troubles.statuses[await queue] += 1


async def _ask(
    client: httpx.AsyncClient, key: str, *, rows: int = 1, tokens: int = SHORT, deadline_s: float | None = None
) -> int:
    """The status of a whole answer."""
    response = await client.post(PATH, json=_body(tokens, n=rows), headers=_headers(key, deadline_s))
    return response.status_code


def _body(tokens: int, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "prompt": PROMPT, "max_tokens": tokens, "ignore_eos": True, **more}


def _headers(key: str, deadline_s: float | None = None) -> Mapping[str, str]:
    deadline = {} if deadline_s is None else {"x-castalia-deadline-ms": str(round(deadline_s * 1e3))}
    return {"Authorization": f"Bearer {key}", **deadline}
