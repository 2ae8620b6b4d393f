"""Owns reading ABC: from a tune's body to full bars of one voice. Never writes any, never sees a network.

The notation is that of https://abcnotation.com/wiki/abc:standard:v2.1. What a tune's melody does not need is left out:
ornaments, chord symbols, slurs, fingerings, and of a chord all but its highest note. Repeats are not played: a part
comes once, with its first ending. Ties join notes within a bar; a note tied over a bar line is struck again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from services.families.recurrent.music.keys import LETTERS, Key, Pitch
from services.families.recurrent.music.scores import EIGHTH, TRIPLETS, Bar, Note

_NOTE = r"(?P<accidental>\^{1,2}|_{1,2}|=)?(?P<letter>[A-Ga-gzx])(?P<octave>[,']*)(?P<length>\d*/*\d*)"
_LEXEME = re.compile(
    rf"""(?P<skipped>"[^"]*"|![^!]*!|\+[^+]*\+|\{{[^}}]*\}}|[~.TuvHLMPSOJRkn\\`*$ \t\r\n]|%[^\n]*)
    |(?P<triplet>\(3(?!:))|(?P<tuplet>\(\d)|(?P<slur>[()])
    |(?P<bar>(?:\[\||:*\|+[\]|:]*|::)\s*)(?P<ending>\[?\d(?:[,-]\d)*)?|\[(?P<numbered>\d(?:[,-]\d)*)
    |(?P<chord>\[(?P<inside>[^\]:|]*)\](?P<chord_length>\d*/*\d*))
    |(?P<tie>-)|(?P<broken>>{{1,2}}|<{{1,2}})
    |{_NOTE}""",
    re.VERBOSE,
)
_INSIDE = re.compile(rf"{_NOTE}|(?P<other>.)")
_ACCIDENTALS = {"^": 1, "^^": 2, "_": -1, "__": -2, "=": 0}


class AbcError(ValueError):
    """What cannot be read, in words fit for a client."""


@dataclass(slots=True)
class _Measure:
    """What stands between two bar lines. `closes`: the line after it ends a part."""

    notes: list[Note] = field(default_factory=list[Note])
    ticks: int = 0
    closes: bool = False


def read_measures(body: str, key: Key, unit: Fraction = Fraction(1, 8)) -> list[Bar]:
    """What stands between bar lines, full or not, empty ones left out; the last need not have its line.

    `unit` is the field L:, what a letter alone lasts. Raises AbcError for notation beyond one plain voice.
    """
    return [tuple(measure.notes) for measure in _Reader(key, unit).read(body)]


def read_bars(body: str, key: Key, bar: int, unit: Fraction = Fraction(1, 8)) -> list[Bar]:
    """Full bars of `bar` ticks each.

    An upbeat at the beginning is dropped; where a line splits a bar, as between parts, it is joined; a part's last
    note lasts until its bar is full. Raises AbcError for notation that cannot be read, and for bars that do not add up.
    """
    return _joined(_Reader(key, unit).read(body), bar)


class _Reader:
    """One reading: the bar in progress, and what the next note is to take along."""

    def __init__(self, key: Key, unit: Fraction) -> None:
        self._key, self._unit = key, unit * 8 * EIGHTH
        self._measures: list[_Measure] = []
        self._now = _Measure()
        self._accidentals: dict[str, int] = {}
        self._triplet = 0  # notes left of it
        self._factor = Fraction(1)  # of the next note, after a broken rhythm
        self._tied: Pitch | None = None
        self._skips = False  # in an ending that is not the first

    def read(self, body: str) -> list[_Measure]:
        for found in _lexemes(body):
            self._take(found)
        self._close(part=True)
        return [measure for measure in self._measures if measure.notes]

    def _take(self, found: re.Match[str]) -> None:
        ending = found["ending"] or found["numbered"]
        if found["bar"]:
            line = found["bar"].strip()
            self._close(part=line != "|")
            self._skips = self._skips and line == "|"
        if ending:
            self._skips = "1" not in ending
        if found["bar"] or ending or found["skipped"] or found["slur"] or self._skips:
            return
        if found["tuplet"]:
            raise AbcError(f"tuplets other than triplets '(3' are not read; got '{found['tuplet']}'")
        if found["triplet"]:
            self._triplet = 3
        elif found["broken"]:
            self._break(found["broken"])
        elif found["tie"]:
            self._tie()
        elif found["chord"]:
            self._chord(found)
        else:
            self._note(self._pitch(found), _length(found["length"]))

    def _pitch(self, found: re.Match[str]) -> Pitch | None:
        """None is a rest. An accidental holds for its letter until the bar's end."""
        letter = found["letter"]
        if letter in "zx":
            return None
        upper = letter.upper()
        octave = (5 if letter.islower() else 4) + found["octave"].count("'") - found["octave"].count(",")
        if found["accidental"]:
            self._accidentals[upper] = _ACCIDENTALS[found["accidental"]]
        alter = self._accidentals.get(upper, self._key.signed(upper))
        return Pitch(7 * octave + LETTERS.index(upper), alter)

    def _chord(self, found: re.Match[str]) -> None:
        notes = list(_INSIDE.finditer(found["inside"]))
        if not notes or any(note["other"] for note in notes):
            raise AbcError(f"'{found['chord']}' is no chord of notes")
        pitches = [pitch for pitch in map(self._pitch, notes) if pitch is not None]
        highest = max(pitches, key=lambda pitch: pitch.midi, default=None)
        self._note(highest, _length(notes[0]["length"]) * _length(found["chord_length"]))

    def _note(self, pitch: Pitch | None, length: Fraction) -> None:
        ticks = self._unit * length * self._factor
        self._factor = Fraction(1)
        if self._triplet:
            ticks = ticks * 2 / 3
            if ticks not in TRIPLETS or (self._triplet < 3 and ticks != self._now.notes[-1].ticks):
                raise AbcError("triplets of eighths and of sixteenths alone are read")
            self._triplet -= 1
        elif ticks % 3 or ticks <= 0:
            raise AbcError(f"a note's length is too short or no part of two: {length}")
        whole = int(ticks)
        self._now.ticks += whole
        if self._tied is not None and self._tied == pitch and self._now.notes:
            before = self._now.notes[-1]
            self._now.notes[-1] = before._replace(ticks=before.ticks + whole)
        else:
            degree, alteration = (None, 0) if pitch is None else self._key.degree(pitch)
            self._now.notes.append(Note(degree, alteration, whole))
        self._tied = None

    def _tie(self) -> None:
        note = self._now.notes[-1] if self._now.notes else None
        if note is not None and note.degree is not None:
            self._tied = self._key.pitch(note.degree, note.alteration)

    def _break(self, signs: str) -> None:
        """`A>B` is A3/2B/2, `A<B` the other way round, doubled signs a quarter."""
        if not self._now.notes:
            raise AbcError(f"'{signs}' follows no note of its bar")
        short = Fraction(1, 2 ** len(signs))
        first, self._factor = (2 - short, short) if signs[0] == ">" else (short, 2 - short)
        note = self._now.notes[-1]
        ticks = note.ticks * first
        if ticks.denominator != 1:
            raise AbcError(f"'{signs}' follows a note that is too short")
        self._now.ticks += int(ticks) - note.ticks
        self._now.notes[-1] = note._replace(ticks=int(ticks))

    def _close(self, *, part: bool) -> None:
        if self._triplet and part is False:
            raise AbcError("a triplet goes over a bar line")
        self._now.closes = part
        if part and not self._now.notes and self._measures:
            self._measures[-1].closes = True
        self._measures.append(self._now)
        self._now, self._tied, self._accidentals = _Measure(), None, {}


def _lexemes(body: str) -> Iterator[re.Match[str]]:
    at = 0
    while at < len(body):
        found = _LEXEME.match(body, at)
        if found is None:
            raise AbcError(f"'{body[at : at + 12]}' cannot be read")
        yield found
        at = found.end()


def _length(text: str) -> Fraction:
    """`3`, `/`, `//`, `3/2`: times the unit."""
    if not text:
        return Fraction(1)
    above, slashes, below = re.fullmatch(r"(\d*)(/*)(\d*)", text).groups()  # type: ignore[union-attr]
    divisor = int(below) if below else 2 ** len(slashes)
    if divisor == 0 or above == "0" or (below and len(slashes) != 1):
        raise AbcError(f"'{text}' is no length")
    return Fraction(int(above or 1), divisor)


def _joined(measures: list[_Measure], bar: int) -> list[Bar]:
    if measures and measures[0].ticks < bar:
        measures = measures[1:]  # the upbeat
    bars: list[Bar] = []
    at = 0
    while at < len(measures):
        now, after = measures[at], measures[at + 1] if at + 1 < len(measures) else None
        at += 1
        if now.ticks == bar:
            bars.append(tuple(now.notes))
        elif after is not None and now.ticks + after.ticks == bar:
            bars.append((*now.notes, *after.notes))
            at += 1
        elif now.closes and bar // 2 <= now.ticks < bar:
            last = now.notes[-1]
            bars.append((*now.notes[:-1], last._replace(ticks=last.ticks + bar - now.ticks)))
        else:
            raise AbcError(f"bar {len(bars) + 1} holds {now.ticks} ticks of {bar}")
    return bars
