"""Owns which line of a batch is next: the input's lines in order, without those that have a result, and those to retry.

Never runs a line.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence, Set
from contextlib import aclosing
from dataclasses import dataclass, replace

from services.gateway.batches.lines import MAX_NUMBER, BadLine, Line, parse_line
from services.gateway.blobs import BlobMissing, Blobs, LineTooLong, NumberedLine, TooManyLines

INPUT_PROBLEMS = (BlobMissing, LineTooLong, TooManyLines, BadLine)
RETRIES_FIRST = 64  # so many waiting to be tried again, no new line begins: it bounds what is held


@dataclass(frozen=True, slots=True)
class Attempt:
    """A line that is to be run. `faults` counts the tries that ended in a fault of the server."""

    line: Line
    faults: int = 0

    def after_fault(self) -> Attempt:
        return replace(self, faults=self.faults + 1)


async def input_lines(
    blobs: Blobs, file_id: str, endpoint: str, *, longest: int, without: Set[int] = frozenset()
) -> AsyncGenerator[Line]:
    """The lines of a checked input file, in order. Raises `INPUT_PROBLEMS` where it is not what was checked."""

    def parse(lines: Sequence[NumberedLine]) -> Sequence[Line]:
        return [parse_line(number, raw, endpoint) for number, raw in lines if number not in without]

    pages = blobs.lines(file_id, longest=longest, most=MAX_NUMBER, parse=parse)
    async with aclosing(pages):
        async for page in pages:
            for line in page:
                yield line


class Supply:
    """Hands out attempts until every line has been taken back as done."""

    def __init__(self, fresh: AsyncIterator[Line]) -> None:
        self._fresh: AsyncIterator[Line] | None = fresh
        self._again: deque[Attempt] = deque()
        self._out = 0  # handed out, and not taken back
        self._changed = asyncio.Event()

    async def take(self) -> Attempt | None:
        """The next attempt; None when every line is done. Waits while what is out may have to be tried again."""
        while True:
            attempt = await self._next()
            if attempt is not None:
                self._out += 1
                return attempt
            if not self._out:
                return None
            self._changed.clear()
            await self._changed.wait()

    def done(self) -> None:
        """An attempt was the line's last."""
        self._out -= 1
        self._changed.set()

    def retry(self, attempt: Attempt) -> None:
        """Try again, after the others."""
        self._again.append(attempt)
        self.done()

    async def _next(self) -> Attempt | None:
        if self._fresh is not None and len(self._again) < RETRIES_FIRST:
            line = await anext(self._fresh, None)
            if line is not None:
                return Attempt(line)
            self._fresh = None
        return self._again.popleft() if self._again else None
