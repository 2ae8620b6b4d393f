"""Owns reading server-sent events (WHATWG HTML, 9.2) from bytes as they come. Never sees what the data says."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable

MAX_EVENT = 4 * 2**20  # bytes


class BadStream(Exception):
    """The bytes are no server-sent events, or more of them than any answer needs."""


class TooLong(BadStream):
    """More than we read of one answer. What it says of the server depends on what it was asked for."""


class EventReader:
    """Takes bytes in any pieces and gives the data of every whole event. Comments and other fields are passed over."""

    def __init__(self, *, max_event: int = MAX_EVENT) -> None:
        self._max_event = max_event
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that end in this piece. Raises BadStream for an event over `max_event` bytes."""
        *lines, self._rest = (self._rest + piece).replace(b"\r\n", b"\n").split(b"\n")
        found: list[bytes] = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
                self._size += len(line)
            elif not line and self._data:
                found.append(b"\n".join(self._data))
                self._data, self._size = [], 0
        if self._size + len(self._rest) > self._max_event:
            raise BadStream(f"an event is longer than {self._max_event} bytes")
        return found

    def end(self) -> list[bytes]:
        """What was left without its blank line: some servers forget the last one."""
        return self.feed(b"\n\n")


async def event_data(pieces: AsyncIterable[bytes]) -> AsyncGenerator[list[bytes], None]:
    """The data of the events, a list for each piece of bytes that ended some: what came together stays together."""
    reader = EventReader()
    async for piece in pieces:
        if found := reader.feed(piece):
            yield found
    if found := reader.end():
        yield found
