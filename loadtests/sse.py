"""Owns the reading of streamed answers in OpenAI's wire format. Never sees a socket: bytes and times go in."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar

DONE = b"[DONE]"


class StreamFailed(Exception):
    """The server sent an error inside the stream, or something that is no event of the format."""

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code  # of the server's error


class StreamCut(StreamFailed):
    """The stream ended before `[DONE]`."""


class EventReader:
    """Cuts a byte stream into the payloads of its `data:` lines, whatever the pieces that it arrives in."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]


def object_of(payload: bytes) -> dict[str, Any]:
    """An event's JSON object. Raises StreamFailed for an error event, and for what is no such object."""
    try:
        event = json.loads(payload)
    except ValueError as error:
        raise StreamFailed(f"not JSON: {payload[:80]!r}") from error
    if not isinstance(event, dict):
        raise StreamFailed(f"not an object: {payload[:80]!r}")
    if isinstance(failure := event.get("error"), dict):  # a reconstruction's error is a number
        code = failure.get("code") or failure.get("type")
        raise StreamFailed(f"{code}: {failure.get('message')}", code=code)
    return event


@dataclass(slots=True)
class Pace:
    """When the pieces of an answer were there. Times are seconds of one monotonic clock."""

    first: float | None = None
    last: float | None = None
    gaps: list[float] = field(default_factory=list[float])  # between a piece and the next

    def note(self, now: float) -> None:
        if self.last is None:
            self.first = now
        else:
            self.gaps.append(now - self.last)
        self.last = now


@dataclass(slots=True)
class EventStream:
    """One answer of events as it arrives. What an event says is its heirs' to read."""

    is_whole: ClassVar[bool] = False  # what comes first is of use before the end
    size: int = 0  # bytes
    done: bool = False
    pace: Pace = field(default_factory=Pace)
    _reader: EventReader = field(default_factory=EventReader)

    def feed(self, data: bytes, now: float) -> None:
        """Take what has arrived. Raises StreamFailed on an error event or on bytes that are no event."""
        self.size += len(data)
        for payload in self._reader.feed(data):
            if self.done:
                raise StreamFailed("an event followed [DONE]")
            if payload == DONE:
                self.done = True
            else:
                self._event(object_of(payload), now)

    def end(self) -> None:
        """Call when the response has ended. Raises StreamCut unless the answer was whole."""
        if not self.done:
            raise StreamCut("the stream ended without [DONE]")
        if missing := self._missing():
            raise StreamCut(f"[DONE] came without {missing}")

    def _event(self, event: dict[str, Any], now: float) -> None:
        raise NotImplementedError

    def _missing(self) -> str:
        """What should have come before [DONE]; empty if nothing."""
        raise NotImplementedError


@dataclass(slots=True)
class TextStream(EventStream):
    """One answer of /v1/chat/completions or /v1/completions.

    `tokens` is the server's own count when it sends `usage`, else the number of events that carried text.
    """

    started: float = field(default=0.0, kw_only=True)
    tokens: int = 0
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None

    @property
    def units(self) -> float:
        return self.tokens

    @property
    def first_text(self) -> float | None:
        return self.pace.first

    @property
    def time_to_first_token(self) -> float | None:
        return None if self.pace.first is None else self.pace.first - self.started

    @property
    def tokens_per_second(self) -> float | None:
        """The rate after the first text; None for answers too short to have one."""
        first, last = self.pace.first, self.pace.last
        if first is None or last is None or last <= first or self.tokens < 2:
            return None
        return (self.tokens - 1) / (last - first)

    def _event(self, event: dict[str, Any], now: float) -> None:
        if usage := event.get("usage"):
            self.usage = usage
            self.tokens = usage["completion_tokens"]
        for choice in event.get("choices", ()):
            self._choice(choice, now)

    def _choice(self, choice: dict[str, Any], now: float) -> None:
        delta = choice.get("delta") or {}
        if choice.get("text") or delta.get("content") or delta.get("tool_calls"):
            self.pace.note(now)
            if self.usage is None:
                self.tokens += 1
        self.finish_reason = choice.get("finish_reason") or self.finish_reason

    def _missing(self) -> str:
        return "a finish_reason" if self.finish_reason is None else ""
