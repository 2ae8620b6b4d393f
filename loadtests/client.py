"""Owns a light load generator: HTTP/1.1 on asyncio streams, and a closed loop of clients."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit


class ServerFailed(Exception):
    """A status other than 200, or a response that is none."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One finished request. Times are of `time.perf_counter`, in seconds."""

    started: float
    first_text: float
    ended: float
    tokens: int


JobT = TypeVar("JobT")


@dataclass(frozen=True, slots=True)
class Window:
    """What happened between two moments of a closed loop."""

    started: float
    ended: float
    answers: tuple[Answer, ...]  # every one that overlaps the window
    client_cpu_s: float

    @property
    def seconds(self) -> float:
        return self.ended - self.started

    @property
    def tokens(self) -> float:
        """Tokens made inside the window, each answer's taken as spread evenly over its time.

        The same measure for servers that stream and servers that answer at the end.
        """
        total = 0.0
        for answer in self.answers:
            inside = min(answer.ended, self.ended) - max(answer.started, self.started)
            total += answer.tokens * max(0.0, inside) / (answer.ended - answer.started)
        return total

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    @property
    def client_cpu_share(self) -> float:
        return self.client_cpu_s / self.seconds

    def first_text_quantile(self, q: float) -> float:
        """Seconds to the first text, by nearest rank, of the answers that began inside the window.

        Of those that overlap it if none began: a batch may outlast a window.
        """
        began = [answer for answer in self.answers if answer.started >= self.started]
        return nearest_rank([answer.first_text - answer.started for answer in began or self.answers], q)


def nearest_rank(values: Sequence[float], q: float) -> float:
    """The quantile `q` that is one of the values; nan of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else math.nan


async def post(url: str, body: dict[str, Any]) -> AsyncIterator[bytes]:
    """POST JSON and yield the body as it arrives. Raises ServerFailed, or IncompleteReadError on a cut body."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(request_bytes(url, body))
        status, headers = await read_head(reader)
        async for data in read_body(reader, headers):
            if status != 200:
                raise ServerFailed(f"{status}: {data[:300].decode(errors='replace')}")
            yield data
        if status != 200:
            raise ServerFailed(f"{status} without a body")
    finally:
        writer.close()


def request_bytes(url: str, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> bytes:
    """A POST of JSON whose response ends the connection."""
    parts = urlsplit(url)
    payload = json.dumps(body).encode()
    lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", "Connection: close"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(payload)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + payload


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in lines[1:] if line)
    return int(lines[0].split()[1]), {name.lower(): value.strip() for name, _, value in fields}


async def read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        yield await reader.readexactly(int(headers["content-length"]))
        return
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        yield (await reader.readexactly(size + 2))[:-2]


async def closed_loop(
    send: Callable[[JobT], Awaitable[Answer]],
    jobs: Iterator[JobT],
    *,
    clients: int,
    warm_s: float,
    window_s: float,
    at_edge: Callable[[], None],
) -> Window:
    """Keep `clients` requests in flight; measure after `warm_s` for `window_s`.

    Load goes on until every answer that was in flight at the window's end has ended, so that none is sped up by an
    emptying server. `at_edge` is called at both ends of the window. What `send` raises ends the loop.
    """
    answers: list[Answer] = []
    arrived = asyncio.Event()

    async def client() -> None:
        while True:
            answers.append(await send(next(jobs)))
            arrived.set()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client()) for _ in range(clients)]
        await asyncio.sleep(warm_s)
        at_edge()
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.sleep(window_s)
        ended, cpu = time.perf_counter(), time.process_time() - cpu
        at_edge()
        # Each client had one request in flight at the edge.
        while sum(answer.started < ended < answer.ended for answer in answers) < clients:
            arrived.clear()
            await arrived.wait()
        for task in tasks:
            task.cancel()
    return Window(began, ended, tuple(a for a in answers if a.ended > began and a.started < ended), cpu)
