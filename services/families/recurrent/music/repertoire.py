"""Owns what a model can be asked for: genres with their metres and keys, and how often training tunes had them."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from services.families.recurrent.music.keys import Key, Mode
from services.families.recurrent.music.lexicon import Terms
from services.families.recurrent.music.scores import Metre

REPERTOIRE = "repertoire.json"
TONICS = ("C", "D", "Eb", "E", "F", "G", "A", "Bb", "B")
MODES: tuple[Mode, ...] = ("major", "minor", "dorian", "mixolydian")
_MOST_ACCIDENTALS = 4
KEYS: tuple[Key, ...] = tuple(
    key for mode in MODES for tonic in TONICS if abs((key := Key(tonic, mode)).sharps) <= _MOST_ACCIDENTALS
)  # those that a tune is transposed to


@dataclass(frozen=True, slots=True)
class Repertoire:
    """By genre, how many training tunes had each metre and each key; the most bars that a tune may have."""

    metres: Mapping[str, Mapping[str, int]]
    keys: Mapping[str, Mapping[str, int]]
    fewest_bars: int
    most_bars: int

    @classmethod
    def of(cls, terms: Iterable[Terms], *, fewest_bars: int, most_bars: int) -> Repertoire:
        metres: dict[str, Counter[str]] = {}
        keys: dict[str, Counter[str]] = {}
        for each in terms:
            metres.setdefault(each.genre, Counter())[str(each.metre)] += 1
            keys.setdefault(each.genre, Counter())[str(each.key)] += 1
        return cls(metres, keys, fewest_bars, most_bars)

    @property
    def genres(self) -> tuple[str, ...]:
        return tuple(sorted(self.metres))

    def usual_metre(self, genre: str) -> Metre:
        counts = self.metres[genre]
        return Metre.parse(max(counts, key=lambda metre: counts[metre]))

    def drawn_key(self, genre: str, uniform: float) -> Key:
        """A key as often as training tunes of the genre had it; `uniform` in [0, 1)."""
        names = sorted(self.keys[genre])
        upper = list(accumulate(self.keys[genre][name] for name in names))
        key = Key.parse(names[bisect_right(upper, uniform * upper[-1])])
        assert key is not None
        return key

    def write(self, folder: Path) -> None:
        content = {
            "metres": {genre: dict(counts) for genre, counts in self.metres.items()},
            "keys": {genre: dict(counts) for genre, counts in self.keys.items()},
            "bars": [self.fewest_bars, self.most_bars],
        }
        (folder / REPERTOIRE).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def read_repertoire(folder: Path) -> Repertoire:
    content = json.loads((folder / REPERTOIRE).read_text())
    return Repertoire(content["metres"], content["keys"], *content["bars"])
