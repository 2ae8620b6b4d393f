"""Owns the bytes of lists: whole answers, lines of JSON, CSV. Never sees a socket, nor what an item means.

Items come as JSON from the replica, and are pasted into place: a dump would parse and write ten thousand of them anew.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from shared.events import Finished, Item, RowEvent


class ItemCounts:
    """Counts what a request's items took. `prompt` is what was read, `completion` is none, `units` is work."""

    def __init__(self) -> None:
        self.prompt = 0
        self.completion = 0
        self.cached = 0
        self.units = 0.0
        self.any_seen = False

    def read(self, item: Item) -> None:
        self.any_seen = True
        self.prompt += item.tokens

    def end(self, end: Finished) -> None:
        self.units += end.units

    def usage(self) -> dict[str, object]:
        return {"prompt_tokens": self.prompt, "total_tokens": self.prompt, "units": round(self.units, 6)}


@dataclass(frozen=True, slots=True)
class ListEnvelope:
    """What an answer says of all its items. `created` is in seconds since the epoch."""

    created: int
    model: str

    def fields(self, kind: str, counts: ItemCounts) -> dict[str, object]:
        return {"object": kind, "created": self.created, "model": self.model, "usage": counts.usage()}


class ItemStream:
    """Writes a list as lines of JSON (NDJSON): items as they come, each with its `index`, and `list.end` last."""

    def __init__(self, envelope: ListEnvelope, counts: ItemCounts) -> None:
        self._envelope = envelope
        self._counts = counts
        self._head = b""

    def encode(self, batch: Sequence[RowEvent]) -> bytes:
        out: list[bytes] = []
        for row, event in batch:
            if isinstance(event, Item):
                self._counts.read(event)
                self._head = self._head or event.head
                out += (_indexed(row, event.json), b"\n")
            elif isinstance(event, Finished):
                self._counts.end(event)
        return b"".join(out)

    def last(self) -> bytes:
        return _joined(self._envelope.fields("list.end", self._counts), self._head) + b"}\n"


class ItemSheet:
    """Gathers all rows of a call for an answer in one piece."""

    def __init__(self) -> None:
        self.counts = ItemCounts()
        self._items: dict[int, bytes] = {}
        self._head = b""

    def take(self, batch: Sequence[RowEvent]) -> None:
        for row, event in batch:
            if isinstance(event, Item):
                self.counts.read(event)
                self._items[row] = event.json
                self._head = self._head or event.head
            elif isinstance(event, Finished):
                self.counts.end(event)

    def answer(self, envelope: ListEnvelope) -> bytes:
        items = b",".join(_indexed(row, item) for row, item in self._ordered())
        return _joined(envelope.fields("list", self.counts), self._head) + b',"data":[' + items + b"]}"

    def table(self, fields: Sequence[str]) -> bytes:
        """These fields of the items as CSV (RFC 4180) with a header line; an object in one gives its own columns."""
        buffer = io.StringIO(newline="")
        rows = [_columns(from_json(item), fields) for _, item in self._ordered()]
        writer = csv.DictWriter(buffer, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        return buffer.getvalue().encode()

    def _ordered(self) -> Iterator[tuple[int, bytes]]:
        return iter(sorted(self._items.items()))


def _columns(item: dict[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for field in fields:
        value = item[field]
        columns |= value if isinstance(value, dict) else {field: value}
    return columns


def _indexed(row: int, item: bytes) -> bytes:
    return b'{"index":%d,' % row + item[1:]


def _joined(fields: dict[str, object], head: bytes) -> bytes:
    """An object of both, not closed yet; `head` is an object of its own, or empty."""
    body = json.dumps(fields, separators=(",", ":")).encode()[:-1]
    return body + b"," + head[1:-1] if head[1:-1] else body
