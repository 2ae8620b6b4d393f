"""Owns the reading of answers that are no streamed text: events of images and sounds, lists, files.

Never sees a socket: bytes and times go in.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from loadtests.sse import EventStream, Pace, StreamCut, StreamFailed, object_of


class Reader(Protocol):
    """Takes an answer's bytes as they arrive, and tells how far it came.

    `is_whole`: nothing of the answer is of use before its end, so that it has no first piece. `units`: what the answer
    holds of tokens, images, items, sounds. `size` is in bytes.
    """

    is_whole: ClassVar[bool]

    @property
    def pace(self) -> Pace: ...
    @property
    def units(self) -> float: ...
    @property
    def size(self) -> int: ...

    def feed(self, data: bytes, now: float) -> None:
        """Raises StreamFailed."""
        ...

    def end(self) -> None:
        """Raises StreamFailed, and StreamCut of an answer that is not whole."""
        ...


@dataclass(slots=True)
class CompletedEvents(EventStream):
    """Images or sounds as events: pieces on the way, and an event `*.completed` for each of the `expected`."""

    expected: int = field(kw_only=True)
    units: float = 0.0

    def _event(self, event: dict[str, Any], now: float) -> None:
        self.units += str(event.get("type", "")).endswith(".completed")
        if "b64_json" in event or "audio" in event:
            self.pace.note(now)

    def _missing(self) -> str:
        return "" if self.units == self.expected else f"all of {self.expected}"


@dataclass(slots=True)
class SpeechEvents(EventStream):
    """One sound, piece by piece, and `speech.audio.done` last."""

    units: float = 0.0

    def _event(self, event: dict[str, Any], now: float) -> None:
        if event.get("type") == "speech.audio.done":
            self.units = 1.0
        else:
            self.pace.note(now)

    def _missing(self) -> str:
        return "" if self.units else "speech.audio.done"


@dataclass(slots=True)
class Lines:
    """A list as lines of JSON, `list.end` last."""

    is_whole: ClassVar[bool] = False

    expected: int
    units: float = 0.0
    size: int = 0
    pace: Pace = field(default_factory=Pace)
    _rest: bytes = b""
    _ended: bool = False

    def feed(self, data: bytes, now: float) -> None:
        self.size += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if self._ended:
                raise StreamFailed("a line followed list.end")
            if object_of(line).get("object") == "list.end":
                self._ended = True
            else:
                self.units += 1
                self.pace.note(now)

    def end(self) -> None:
        if not self._ended:
            raise StreamCut("the lines ended without list.end")
        if self.units != self.expected:
            raise StreamFailed(f"list.end came without all of {self.expected}")


@dataclass(slots=True)
class WholeList:
    """An answer in one piece: an object whose `key` is a list of the `expected` things."""

    is_whole: ClassVar[bool] = True

    key: str
    expected: int
    units: float = 0.0
    size: int = 0
    pace: Pace = field(default_factory=Pace)
    _data: list[bytes] = field(default_factory=list[bytes])

    def feed(self, data: bytes, now: float) -> None:
        self.size += len(data)
        self._data.append(data)

    def end(self) -> None:
        try:
            listed = json.loads(b"".join(self._data))[self.key]
        except (ValueError, KeyError, TypeError):
            raise StreamFailed(f"an answer that is no JSON object with {self.key!r}") from None
        self.units = float(len(listed))
        if len(listed) != self.expected:
            raise StreamFailed(f"not all of {self.expected} in {self.key!r}")


@dataclass(slots=True)
class File:
    """A file, sent as it is made. Only the transfer itself tells that one was cut."""

    is_whole: ClassVar[bool] = False

    units: float = 0.0
    size: int = 0
    pace: Pace = field(default_factory=Pace)

    def feed(self, data: bytes, now: float) -> None:
        self.size += len(data)
        if self.pace.first is None:  # where bytes of a file are cut says nothing
            self.pace.note(now)

    def end(self) -> None:
        if not self.size:
            raise StreamCut("an empty file")
        self.units = 1.0
