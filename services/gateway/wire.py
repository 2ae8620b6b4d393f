"""Owns what a wire format gives to whoever carries it: bytes of events, and counts. Never sees a socket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from shared.events import RowEvent


class StreamWire(Protocol):
    """Writes the events of a stream. Calls come in the order of the events."""

    def encode(self, batch: Sequence[RowEvent]) -> bytes:
        """Whole server-sent events for what the batch brought; empty if there is nothing to say."""
        ...

    def last(self) -> bytes:
        """What comes between the last row's end and [DONE]."""
        ...


class Counts(Protocol):
    """What a request's rows have used so far, in tokens. `any_seen` says whether a row has given anything.

    `cached`: how many of the prompt's the model had read before.
    """

    @property
    def any_seen(self) -> bool: ...
    @property
    def prompt(self) -> int: ...
    @property
    def cached(self) -> int: ...
    @property
    def completion(self) -> int: ...
