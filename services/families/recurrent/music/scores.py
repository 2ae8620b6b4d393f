"""Owns what a tune is: notes in bars, in a key and a metre. Never sees text, a file or a network.

Lengths are in ticks, 24 to an eighth note. A bar is full: its notes' ticks are the metre's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from services.families.recurrent.music.keys import Key, Pitch

EIGHTH = 24
TRIPLETS = (16, 8)  # ticks of a note of three in the time of two: eighths, sixteenths


class Note(NamedTuple):
    """`degree` counts letters from the key's tonic, None is a rest; `alteration` semitones from the signature."""

    degree: int | None
    alteration: int
    ticks: int


Bar = tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Metre:
    """As `6/8`: so many beats of such a part of a whole note."""

    beats: int
    unit: int

    @classmethod
    def parse(cls, text: str) -> Metre:
        """Raises ValueError for what is no metre."""
        beats, _, unit = text.partition("/")
        return cls(int(beats), int(unit))

    def __str__(self) -> str:
        return f"{self.beats}/{self.unit}"

    @property
    def bar(self) -> int:
        """Ticks of a bar."""
        return self.beats * 8 * EIGHTH // self.unit

    @property
    def is_compound(self) -> bool:
        """Whether the beat is a dotted quarter."""
        return self.unit == 8 and self.beats % 3 == 0

    @property
    def group(self) -> int:
        """Ticks that notes are written together in: a beat of three eighths, else four."""
        return EIGHTH * (3 if self.is_compound else 4)

    @property
    def beat(self) -> Fraction:
        """What a tempo counts, as a part of a whole note: three eighths, else a quarter."""
        return Fraction(3, 8) if self.is_compound else Fraction(1, 4)

    def seconds(self, ticks: int, tempo: int) -> float:
        """How long so many ticks last, at so many beats a minute."""
        return ticks * 60 / tempo / float(self.beat * 8 * EIGHTH)


@dataclass(frozen=True, slots=True)
class Tune:
    """One voice. `tempo` is in beats a minute."""

    genre: str
    metre: Metre
    key: Key
    bars: tuple[Bar, ...]
    tempo: int = 120
    title: str = ""

    @property
    def notes(self) -> Iterator[Note]:
        for bar in self.bars:
            yield from bar

    @property
    def adds_up(self) -> bool:
        """Whether every bar is full."""
        return all(sum(note.ticks for note in bar) == self.metre.bar for bar in self.bars)

    @property
    def seconds(self) -> float:
        return self.metre.seconds(len(self.bars) * self.metre.bar, self.tempo)

    def pitch(self, note: Note) -> Pitch | None:
        """None is a rest."""
        return None if note.degree is None else self.key.pitch(note.degree, note.alteration)
