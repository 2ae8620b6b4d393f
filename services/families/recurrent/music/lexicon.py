"""Owns a tune's spelling: from notes in bars to lexemes and back. Knows no ids, never sees a network.

A sequence is the tune's terms, then its bars. Each bar begins with how many are left, itself included, so that a tune
ends where it is to end; each note is a degree of the scale, followed by its length unless that is an eighth. Degrees
count from the tonic: a tune is spelled alike in every key of its mode.

    genre:reel metre:4/4 mode:major tonic:G |16 4 2 x2 (3 0 1 2 ... |15 ... </s>
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from services.families.recurrent.music.keys import Key
from services.families.recurrent.music.scores import EIGHTH, TRIPLETS, Bar, Metre, Note

END = "</s>"
REST = "z"
TRIPLET_SIGNS = dict(zip(("(3", "(3/"), TRIPLETS, strict=True))  # sign to ticks of each of its three notes
_SIGNS = {ticks: sign for sign, ticks in TRIPLET_SIGNS.items()}


@dataclass(frozen=True, slots=True)
class Terms:
    """What is asked of a tune, and what a sequence begins with."""

    genre: str
    metre: Metre
    key: Key

    def lexemes(self) -> list[str]:
        return [f"genre:{self.genre}", f"metre:{self.metre}", f"mode:{self.key.mode}", f"tonic:{self.key.tonic}"]


def bar_lexeme(left: int) -> str:
    """`left` counts this bar too."""
    return f"|{left}"


def pitch_lexeme(note: Note) -> str:
    if note.degree is None:
        return REST
    sign = "+" if note.alteration > 0 else "-"
    return f"{note.degree}{sign * abs(note.alteration)}"


def length_lexeme(ticks: int) -> str:
    return f"x{Fraction(ticks, EIGHTH)}"


def length_ticks(lexeme: str) -> int:
    return int(Fraction(lexeme[1:]) * EIGHTH)


def is_length(lexeme: str) -> bool:
    return lexeme.startswith("x")


def is_bar(lexeme: str) -> bool:
    return lexeme.startswith("|")


def spell_bars(bars: Sequence[Bar], left: int) -> Iterator[str]:
    """`left`: bars of the whole tune that are left at the first of these. Triplets come in threes."""
    for i, bar in enumerate(bars):
        yield bar_lexeme(left - i)
        yield from spell_notes(bar)


def spell_notes(notes: Sequence[Note]) -> Iterator[str]:
    of_triplet = 0
    for note in notes:
        if note.ticks in _SIGNS:
            if of_triplet == 0:
                yield _SIGNS[note.ticks]
            of_triplet = (of_triplet + 1) % 3
            yield pitch_lexeme(note)
            continue
        yield pitch_lexeme(note)
        if note.ticks != EIGHTH:
            yield length_lexeme(note.ticks)


def spell_tune(terms: Terms, bars: Sequence[Bar]) -> list[str]:
    return [*terms.lexemes(), *spell_bars(bars, len(bars)), END]


def read_lexemes(lexemes: Sequence[str]) -> tuple[Bar, ...]:
    """The bars that lexemes after the terms spell; the last may be incomplete. END is left out or comes last."""
    bars: list[list[Note]] = []
    triplet, of_triplet = 0, 0
    for lexeme in lexemes:
        if is_bar(lexeme):
            bars.append([])
        elif lexeme in TRIPLET_SIGNS:
            triplet, of_triplet = TRIPLET_SIGNS[lexeme], 3
        elif is_length(lexeme):
            bars[-1][-1] = bars[-1][-1]._replace(ticks=length_ticks(lexeme))
        elif lexeme != END:
            degree, alteration = _read_pitch(lexeme)
            bars[-1].append(Note(degree, alteration, triplet if of_triplet else EIGHTH))
            of_triplet = max(0, of_triplet - 1)
    return tuple(tuple(bar) for bar in bars)


def _read_pitch(lexeme: str) -> tuple[int | None, int]:
    if lexeme == REST:
        return None, 0
    degree = lexeme.rstrip("+-")
    signs = lexeme[len(degree) :]
    return int(degree), signs.count("+") - signs.count("-")
