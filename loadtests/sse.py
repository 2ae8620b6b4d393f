"""Owns the reading of a streamed text answer in OpenAI's wire format. Never sees a socket: bytes and times go in."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

DONE = b"[DONE]"


class StreamFailed(Exception):
    """The server sent an error inside the stream, or something that is no event of the format."""


class StreamCut(StreamFailed):
    """The stream ended before `[DONE]`."""


class EventReader:
    """Cuts a byte stream into the payloads of its `data:` lines, whatever the pieces that it arrives in."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]


@dataclass(slots=True)
class TextStream:
    """One answer of /v1/chat/completions or /v1/completions as it arrives. Times are seconds of one monotonic clock.

    `tokens` is the server's own count when it sends `usage`, else the number of events that carried text.
    """

    started: float
    first_text: float | None = None
    last_text: float | None = None
    tokens: int = 0
    size: int = 0  # bytes
    finish_reason: str | None = None
    done: bool = False
    usage: dict[str, Any] | None = None
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
                self._event(payload, now)

    def end(self) -> None:
        """Call when the response has ended. Raises StreamCut unless the answer was whole."""
        if not self.done:
            raise StreamCut(f"the stream ended after {self.tokens} tokens without [DONE]")
        if self.finish_reason is None:
            raise StreamCut("[DONE] came without a finish_reason")

    @property
    def time_to_first_token(self) -> float | None:
        return None if self.first_text is None else self.first_text - self.started

    @property
    def tokens_per_second(self) -> float | None:
        """The rate after the first text; None for answers too short to have one."""
        if self.first_text is None or self.last_text is None or self.last_text <= self.first_text or self.tokens < 2:
            return None
        return (self.tokens - 1) / (self.last_text - self.first_text)

    def _event(self, payload: bytes, now: float) -> None:
        try:
            event = json.loads(payload)
        except ValueError as error:
            raise StreamFailed(f"not JSON: {payload[:80]!r}") from error
        if failure := event.get("error"):
            raise StreamFailed(f"{failure.get('code') or failure.get('type')}: {failure.get('message')}")
        if usage := event.get("usage"):
            self.usage = usage
            self.tokens = usage["completion_tokens"]
        for choice in event.get("choices", ()):
            self._choice(choice, now)

    def _choice(self, choice: dict[str, Any], now: float) -> None:
        if choice.get("text") or (choice.get("delta") or {}).get("content"):
            self.first_text = self.first_text if self.first_text is not None else now
            self.last_text = now
            if self.usage is None:
                self.tokens += 1
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
