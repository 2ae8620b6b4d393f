"""Owns reading Jane Austen's novels from the R package `janeaustenr`: from its database of lines to chapters.

An R database (`.rdb`) holds its objects one after another: four bytes of length, and that many bytes in zlib's format.
Each object here is a vector of strings in R's XDR serialisation (R Internals, section 1.8): a novel, line by line.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from services.families.transformer.stories.chapters import Chapter, flowing

DATABASE = "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"
_STRINGS, _STRING = 16, 9  # R's types: a vector of strings, and one of its strings
_HEADING = re.compile(r"chapter ([0-9]+|[ivxl]+)\Z", re.IGNORECASE)
_END = re.compile(r"(finis|the end|a note on the text)\Z", re.IGNORECASE)
_NO_PARAGRAPH = re.compile(r"volume [ivx]+\Z|[\[*]", re.IGNORECASE)  # parts of a novel, editors' notes, ornaments


def read_novels(package: Path) -> list[Chapter]:
    """Every chapter of the unpacked package's novels, as they are laid out in it. Raises ValueError for other data."""
    return [chapter for lines in _objects((package / DATABASE).read_bytes()) for chapter in chapters(lines)]


def chapters(lines: Sequence[str]) -> Iterator[Chapter]:
    """The chapters of a novel whose first line is its title; what stands before the first and after the last is not."""
    title, number = flowing(lines[0]).title(), 0
    paragraphs: list[str] = []
    open_paragraph: list[str] = []
    for line in (*lines, "THE END"):
        bare = line.strip()
        begins, ends = _HEADING.match(bare), _END.match(bare)
        if not (bare and begins is None and ends is None):
            paragraphs += _paragraph(open_paragraph)
            open_paragraph = []
        elif number:
            open_paragraph.append(bare)
        if number and paragraphs and (begins or ends):
            yield Chapter(title, number, "\n".join(paragraphs))
        if ends and number:
            return
        if begins:
            number, paragraphs = number + 1, []


def _paragraph(lines: Sequence[str]) -> list[str]:
    """One paragraph, without marks of emphasis and of footnotes; none of what is not the author's."""
    text = flowing(" ".join(lines))
    return [text.replace("_", "").replace("*", "")] if text and not _NO_PARAGRAPH.match(text) else []


def _objects(database: bytes) -> Iterator[list[str]]:
    while database:
        (length,) = struct.unpack(">I", database[:4])
        unpacker = zlib.decompressobj()
        serialised = unpacker.decompress(database[4:]) + unpacker.flush()
        if len(serialised) != length:
            raise ValueError(f"{DATABASE}: an object of {len(serialised)} bytes says that it has {length}")
        yield _strings(serialised)
        database = unpacker.unused_data


def _strings(serialised: bytes) -> list[str]:
    """Format 3: a header that ends with the name of an encoding, then flags, a count, and flags and bytes of each."""
    if serialised[:6] != b"X\n\0\0\0\3":
        raise ValueError(f"{DATABASE}: an object is not serialised as XDR, version 3")
    at = 18 + struct.unpack(">I", serialised[14:18])[0]
    kind, count = struct.unpack(">II", serialised[at : at + 8])
    if kind & 0xFF != _STRINGS:
        raise ValueError(f"{DATABASE}: an object is of R's type {kind & 0xFF}, not {_STRINGS}")
    lines, at = list[str](), at + 8
    for _ in range(count):
        kind, length = struct.unpack(">Ii", serialised[at : at + 8])
        if kind & 0xFF != _STRING or length < 0:
            raise ValueError(f"{DATABASE}: an element is no string")
        lines.append(serialised[at + 8 : at + 8 + length].decode("utf-8"))
        at += 8 + length
    return lines
