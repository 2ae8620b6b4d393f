"""Owns chapters of narrative: which are trained on and which are held out, and the files they lie in. No tokens.

Whole chapters are held out, never lines among those that are trained on: a model that has read the page before and the
page after knows too much of what stands between. Of the Bible whole books are, since its gospels and its histories
tell the same things in nearly the same words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Part = Literal["training", "validation", "held_out"]
PARTS: Sequence[Part] = ("training", "validation", "held_out")
_EVERY = 20  # chapters of a novel, of which one is held out and one validated on
_APART: Mapping[int, Part] = {_EVERY // 2: "held_out", 0: "validation"}
_WHOLE: Mapping[str, Part] = {"Daniel": "validation", "Ruth": "held_out", "Esther": "held_out", "Jonah": "held_out"}


@dataclass(frozen=True, slots=True)
class Chapter:
    """`number` counts from 1 within the work. `text`: a line a paragraph, none of them empty."""

    work: str
    number: int
    text: str


def flowing(text: str) -> str:
    """A paragraph on one line, with single spaces."""
    return " ".join(text.split())


def split(novels: Iterable[Chapter], books: Iterable[Chapter]) -> Mapping[Part, list[str]]:
    """Texts by part: of novels every so many chapters are held out or validated on, of the Bible's books whole ones."""
    parts: dict[Part, list[str]] = {part: [] for part in PARTS}
    for chapter in novels:
        parts[_APART.get(chapter.number % _EVERY, "training")].append(chapter.text)
    for chapter in books:
        parts[_WHOLE.get(chapter.work, "training")].append(chapter.text)
    return parts


def write_part(folder: Path, part: Part, texts: Sequence[str]) -> None:
    write_texts(folder / f"{part}.txt", texts)


def read_part(folder: Path, part: Part) -> list[str]:
    return read_texts(folder / f"{part}.txt")


def write_texts(path: Path, texts: Sequence[str]) -> None:
    """Texts of lines, none of them empty; an empty line parts one text from the next."""
    path.write_text("\n\n".join(texts), encoding="utf-8")


def read_texts(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n\n")
