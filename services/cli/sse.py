"""Owns reading server-sent events from bytes. Never sees HTTP.

The stream is split at newlines alone, as the standard says: text in a JSON string may hold characters (U+2028, U+0085)
that `str.splitlines` would take for the end of a line.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def read_events(chunks: Iterable[bytes]) -> Iterator[str]:
    """The data of each event, in order. Comments are skipped, and so is an event that its blank line never ended."""
    data: list[str] = []
    for line in read_lines(chunks):
        if line == b"" and data:
            yield "\n".join(data)
            data.clear()
        elif line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" ").decode("utf-8", "replace"))


def read_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Each line that ended, without its end."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r")
