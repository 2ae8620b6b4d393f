"""Owns the types of file that made things are written as: from items of an answer to bytes."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Item = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FileType:
    """How a file is written: with all items if they go `together`, else with one. `asks` has the answer hold them."""

    write: Callable[[Sequence[Item]], bytes]
    together: bool = False
    asks: Mapping[str, object] = field(default_factory=dict[str, object])


def text(name: str, **asks: object) -> FileType:
    """An item's field, as it is."""
    return FileType(lambda items: str(items[0][name]).encode(), asks=asks)


def texts(name: str, between: str) -> FileType:
    """The field of all items."""
    return FileType(lambda items: (between.join(str(item[name]).rstrip("\n") for item in items) + "\n").encode(), True)


def binary(name: str, **asks: object) -> FileType:
    """A file that an item's field holds in base64."""
    return FileType(lambda items: base64.b64decode(items[0][name], validate=True), asks=asks)


def sound(**asks: object) -> FileType:
    """A file that was read as bytes."""
    return FileType(lambda items: bytes(items[0]["data"]), asks=asks)


def json_lines(of: Callable[[Item], object] = dict) -> FileType:
    """An item a line."""
    return FileType(
        lambda items: "".join(json.dumps(of(item), ensure_ascii=False) + "\n" for item in items).encode(), True
    )


def table(rows: Callable[[Item], Iterable[Mapping[str, object]]]) -> FileType:
    """CSV (RFC 4180) with a header line; an item gives one or more rows."""

    def write(items: Sequence[Item]) -> bytes:
        found = [row for item in items for row in rows(item)]
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, fieldnames=list(found[0]))
        writer.writeheader()
        writer.writerows(found)
        return buffer.getvalue().encode()

    return FileType(write, together=True)
