"""Owns the judge of genres: a classifier of real tunes that the model has not seen. Serves nothing.

It hears rhythm and melody: shares of lengths, pairs of them, steps, and how alike the melody is to itself some eighths
later. It is not told the metre, nor where bars begin; but a jig's beats of three eighths are to be heard all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from services.families.recurrent.music.scores import EIGHTH, Note

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestClassifier

_LENGTHS = (12, 16, 24, 36, 48, 72, 96)
_PAIRS = ((36, 12), (12, 36), (24, 24), (48, 24), (24, 48), (48, 48), (24, 12), (12, 12))
_STEPS = 8
_LAGS = 12  # eighths

Features = NDArray[np.float64]  # (N, F)


class GenreJudge:
    """Tells genres. Deterministic."""

    def __init__(self, melodies: Sequence[Sequence[Note]], genres: Sequence[str], trees: int = 300) -> None:
        """Learns from melodies, each with its genre; a rare genre counts as much as a frequent one."""
        from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415 - of the `train` extra

        self._forest: RandomForestClassifier = RandomForestClassifier(
            trees, class_weight="balanced", min_samples_leaf=2, random_state=0
        )
        self._forest.fit(features(melodies), list(genres))

    def tell(self, melodies: Sequence[Sequence[Note]]) -> list[str]:
        return [str(genre) for genre in self._forest.predict(features(melodies))]

    def right(self, melodies: Sequence[Sequence[Note]], genres: Sequence[str]) -> float:
        """The share whose genre is told; every genre weighs the same."""
        told = self.tell(melodies)
        shares = [
            np.mean([verdict == genre for verdict, genre in zip(told, genres, strict=True) if genre == each])
            for each in sorted(set(genres))
        ]
        return float(np.mean(shares))


def features(melodies: Sequence[Sequence[Note]]) -> Features:
    return np.stack([_features(list(notes)) for notes in melodies])


def _features(notes: Sequence[Note]) -> NDArray[np.float64]:
    ticks = [note.ticks for note in notes]
    lengths = [sum(each == length for each in ticks) / len(ticks) for length in _LENGTHS]
    following = list(pairwise(ticks))
    pairs = [sum(pair == each for pair in following) / max(1, len(following)) for each in _PAIRS]
    degrees = np.array([note.degree for note in notes if note.degree is not None])
    steps = np.minimum(np.abs(np.diff(degrees)), _STEPS - 1)
    shares = np.bincount(steps, minlength=_STEPS) / max(1, len(steps))
    rests = sum(note.degree is None for note in notes) / len(notes)
    return np.array([*lengths, *pairs, *shares, rests, *_echoes(notes)])


def _echoes(notes: Sequence[Note]) -> list[float]:
    """How often the melody is where it was so many eighths before, and how often a note begins at both times."""
    at = np.cumsum([0, *(note.ticks for note in notes)])
    sounding = np.full(at[-1], -99)
    begins = np.zeros(at[-1], bool)
    for start, end, note in zip(at, at[1:], notes, strict=False):
        sounding[start:end] = -99 if note.degree is None else note.degree
        begins[start] = True
    sounding, begins = sounding[::EIGHTH], begins[::EIGHTH]
    lags = range(1, min(_LAGS, len(sounding) - 1) + 1)
    alike = [float(np.mean(sounding[lag:] == sounding[:-lag])) for lag in lags]
    both = [float(np.mean(begins[lag:] & begins[:-lag])) for lag in lags]
    return [*alike, *[0.0] * (_LAGS - len(alike)), *both, *[0.0] * (_LAGS - len(both))]
