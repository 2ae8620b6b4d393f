"""Owns requests that are sent on time, whether or not the ones before were answered, and what became of each."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from loadtests.client import nearest_rank, read_body, read_head, request_bytes

REFUSALS = frozenset({429, 503})
ERROR_KEYS = {"message", "type", "param", "code"}
RETRY_AFTER = re.compile(r"([1-9]|[12][0-9]|30)")  # what the official client obeys, and the gateway promises


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of one request. Times are of `time.perf_counter`, in seconds; `status` 0: no whole answer came."""

    started: float
    ended: float
    status: int
    is_well_formed: bool = True  # of a refusal: the body's four keys, and a Retry-After of 1 to 30 seconds
    cause: str = ""

    @property
    def seconds(self) -> float:
        return self.ended - self.started

    @property
    def is_refusal(self) -> bool:
        return self.status in REFUSALS


async def ask(url: str, body: dict[str, Any], *, headers: Mapping[str, str], patience_s: float) -> Reply:
    """One request on a connection of its own. What fails, or takes longer than `patience_s`, has status 0."""
    started = time.perf_counter()
    try:
        async with asyncio.timeout(patience_s):
            status, is_well_formed = await _exchange(url, body, headers)
        return Reply(started, time.perf_counter(), status, is_well_formed)
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError, IndexError, KeyError) as error:
        return Reply(started, time.perf_counter(), 0, cause=repr(error))


async def _exchange(url: str, body: dict[str, Any], headers: Mapping[str, str]) -> tuple[int, bool]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(request_bytes(url, body, headers))
        status, fields = await read_head(reader)
        data = b"".join([piece async for piece in read_body(reader, fields)])
    finally:
        writer.close()
    return status, status not in REFUSALS or is_well_formed(fields, data)


def is_well_formed(headers: Mapping[str, str], data: bytes) -> bool:
    """Whether a refusal says why, and when to come again, in the promised form."""
    try:
        body = json.loads(data)
    except ValueError:
        return False
    error = body.get("error") if isinstance(body, dict) else None
    return (
        isinstance(error, dict)
        and set(error) == ERROR_KEYS
        and RETRY_AFTER.fullmatch(headers.get("retry-after", "")) is not None
    )


async def open_loop(send: Callable[[], Any], *, per_second: float, seconds: float) -> list[Reply]:
    """Send so many a second, evenly, for so long; the replies to all of them, in the order of sending."""
    began = time.perf_counter()
    tasks: list[asyncio.Task[Reply]] = []
    for number in range(int(per_second * seconds)):
        await asyncio.sleep(began + number / per_second - time.perf_counter())
        tasks.append(asyncio.ensure_future(send()))
    return list(await asyncio.gather(*tasks))


async def closed_loop(send: Callable[[], Any], *, clients: int, seconds: float) -> list[Reply]:
    """Keep so many in flight for so long; the replies to all that were sent."""
    replies: list[Reply] = []
    end = time.perf_counter() + seconds

    async def client() -> None:
        while time.perf_counter() < end:
            replies.append(await send())

    await asyncio.gather(*(client() for _ in range(clients)))
    return replies


def goodput(replies: Sequence[Reply], *, deadline_s: float, after_s: float, seconds: float) -> float:
    """Answers within their deadline a second, of those that ended `after_s` to `seconds` after the first request."""
    began = min(reply.started for reply in replies)
    good = sum(
        reply.status == 200 and reply.seconds <= deadline_s and after_s <= reply.ended - began <= seconds
        for reply in replies
    )
    return good / (seconds - after_s)


def refusal_p95(replies: Sequence[Reply]) -> float:
    """Seconds; nan without refusals."""
    return nearest_rank([reply.seconds for reply in replies if reply.is_refusal], 0.95)
