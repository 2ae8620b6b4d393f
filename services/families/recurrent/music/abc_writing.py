"""Owns writing ABC: a tune as text that every reader of version 2.1 takes alike. Never reads any."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from services.families.recurrent.music.keys import Key, Pitch
from services.families.recurrent.music.scores import EIGHTH, TRIPLETS, Bar, Note, Tune

_BARS_A_LINE = 4
_ACCIDENTALS = {-2: "__", -1: "_", 0: "=", 1: "^", 2: "^^"}


def write_abc(tune: Tune) -> str:
    """Header and body, with a line for every four bars; the unit is an eighth."""
    head = [
        "X:1",
        f"T:{tune.title}",
        f"R:{tune.genre}",
        f"M:{tune.metre}",
        "L:1/8",
        f"Q:{tune.metre.beat}={tune.tempo}",
        f"K:{tune.key}",
    ]
    return "\n".join([*head, *_lines(tune)]) + "\n"


def _lines(tune: Tune) -> Iterator[str]:
    bars = [_bar(tune, bar) for bar in tune.bars]
    for at in range(0, len(bars), _BARS_A_LINE):
        end = "|]" if at + _BARS_A_LINE >= len(bars) else "|"
        yield " | ".join(bars[at : at + _BARS_A_LINE]) + " " + end


def _bar(tune: Tune, bar: Bar) -> str:
    """Notes of a beat stand together. An accidental is written out again wherever its letter returns in the bar."""
    words: list[str] = []
    altered: set[str] = set()
    at, of_triplet = 0, 0
    for note in bar:
        if not words or (at % tune.metre.group == 0 and not of_triplet):
            words.append("")
        if note.ticks in TRIPLETS:
            words[-1] += "" if of_triplet else "(3"
            of_triplet = (of_triplet + 1) % 3
        words[-1] += _note(tune.key, tune.pitch(note), altered) + _length(note)
        at += note.ticks
    return " ".join(words)


def _note(key: Key, pitch: Pitch | None, altered: set[str]) -> str:
    if pitch is None:
        return "z"
    sign = ""
    if pitch.alter != key.signed(pitch.letter) or pitch.letter in altered:
        sign = _ACCIDENTALS[pitch.alter]
        altered.add(pitch.letter)
    if pitch.octave >= 5:
        return sign + pitch.letter.lower() + "'" * (pitch.octave - 5)
    return sign + pitch.letter + "," * (4 - pitch.octave)


def _length(note: Note) -> str:
    ticks = note.ticks * 3 // 2 if note.ticks in TRIPLETS else note.ticks
    length = Fraction(ticks, EIGHTH)
    if length == 1:
        return ""
    if length == Fraction(1, 2):
        return "/"
    return str(length)
