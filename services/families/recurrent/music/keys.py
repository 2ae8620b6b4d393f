"""Owns keys and pitches: names to signatures, degrees of a scale to notes and back. Never sees a tune.

A pitch is a step, counted in letters from C of octave 0 (C4, the middle one, is 28), and an alteration in semitones.
A degree is a step counted from the key's tonic, with an alteration from what the key's signature says: the same tune
in another key has the same degrees.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

Mode = Literal["major", "minor", "dorian", "mixolydian"]

LETTERS = "CDEFGAB"
_SEMITONES = (0, 2, 4, 5, 7, 9, 11)  # of the letters, above C
_ORDER_OF_SHARPS = "FCGDAEB"
_MAJOR_SHARPS = {"F": -1, "C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5}
_BELOW_MAJOR: dict[Mode, int] = {"major": 0, "mixolydian": 1, "dorian": 2, "minor": 3}  # sharps that the mode lacks
_ABBREVIATED: dict[Mode, str] = {"major": "", "minor": "m", "dorian": "dor", "mixolydian": "mix"}
_NAME = re.compile(r"\s*([A-G])([#b]?)\s*([A-Za-z]*)\s*")
_WORDS: dict[str, Mode] = {
    "": "major",
    "maj": "major",
    "ion": "major",
    "m": "minor",
    "min": "minor",
    "aeo": "minor",
    "dor": "dorian",
    "mix": "mixolydian",
}


class Pitch(NamedTuple):
    """`alter` is +1 for a sharp, -1 for a flat, whatever the key says."""

    step: int
    alter: int

    @property
    def letter(self) -> str:
        return LETTERS[self.step % 7]

    @property
    def octave(self) -> int:
        return self.step // 7

    @property
    def midi(self) -> int:
        """60 is the middle C."""
        return 12 * (self.octave + 1) + _SEMITONES[self.step % 7] + self.alter


@dataclass(frozen=True, slots=True)
class Key:
    """A tonic, as `G` or `Bb`, and a mode."""

    tonic: str
    mode: Mode

    @classmethod
    def parse(cls, text: str) -> Key | None:
        """`G`, `Am`, `A minor`, `Edor`, `D mixolydian` ...; None for what is no key, or of another mode."""
        found = _NAME.fullmatch(text)
        if found is None:
            return None
        word = found[3]
        mode = "minor" if word == "m" else _WORDS.get(word.lower()[:3]) if word != "M" else "major"
        return None if mode is None else cls(found[1] + found[2], mode)

    def __str__(self) -> str:
        """As ABC's field K: has it."""
        return self.tonic + _ABBREVIATED[self.mode]

    @property
    def sharps(self) -> int:
        """Of its signature; flats count below 0."""
        accidental = {"": 0, "#": 7, "b": -7}[self.tonic[1:]]
        return _MAJOR_SHARPS[self.tonic[0]] + accidental - _BELOW_MAJOR[self.mode]

    @property
    def midi_name(self) -> str:
        """The major or minor key of the same signature, as MIDI files name it."""
        if self.mode == "minor":
            return self.tonic + "m"
        names = {_MAJOR_SHARPS[letter] + 7 * shift: letter + sign
                 for shift, sign in ((0, ""), (1, "#"), (-1, "b")) for letter in LETTERS}  # fmt: skip
        return names[self.sharps]

    @property
    def tonic_step(self) -> int:
        """The step of degree 0: the tonic in the octave from B3 to A4, where tunes of these keys have their middle."""
        letter = LETTERS.index(self.tonic[0])
        return 7 * (3 if self.tonic[0] == "B" else 4) + letter

    @property
    def tonic_pitch(self) -> Pitch:
        return self.pitch(0, 0)

    def signed(self, letter: str) -> int:
        """What the signature makes of a letter: 1 sharp, -1 flat, 0 neither."""
        at = _ORDER_OF_SHARPS.index(letter)
        return (self.sharps + 6 - at) // 7

    def pitch(self, degree: int, alteration: int) -> Pitch:
        step = self.tonic_step + degree
        return Pitch(step, self.signed(LETTERS[step % 7]) + alteration)

    def degree(self, pitch: Pitch) -> tuple[int, int]:
        """The inverse of `pitch`."""
        return pitch.step - self.tonic_step, pitch.alter - self.signed(pitch.letter)
