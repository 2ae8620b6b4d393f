"""Owns how much of a text stands word for word in another: the longest run of words that they share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")
_APART = -1  # between two texts of the source


class Source:
    """Texts that runs of words are looked for in. Case and punctuation do not count, and no run crosses two texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._ids: dict[str, int] = {}
        ids: list[int] = []
        for text in texts:
            ids += [self._ids.setdefault(word, len(self._ids)) for word in words(text)]
            ids.append(_APART)
        self._words = np.array(ids, np.int64)
        order = np.argsort(self._words, kind="stable")
        bounds = np.searchsorted(self._words[order], np.arange(len(self._ids) + 1))
        self._places = [order[first:last] for first, last in pairwise(bounds)]

    def longest_run(self, text: str) -> list[str]:
        """The longest run of the text's words that the source holds too; the first of several."""
        listed = words(text)
        ids = [self._ids.get(word) for word in listed]
        best, at = 0, 0
        for start in range(len(ids)):
            if (length := self._run(ids[start:], best)) > best:
                best, at = length, start
        return listed[at : at + best]

    def _run(self, ids: Sequence[int | None], best: int) -> int:
        """How many of the first ids follow one another somewhere, if more than `best`; else any number up to it."""
        if len(ids) <= best or ids[0] is None:
            return 0
        places: NDArray[np.int64] = self._places[ids[0]]
        for length, word in enumerate(ids[1:], start=1):
            # The source ends with a mark, so that there is always a word or a mark after a place.
            places = places[self._words[places + length] == word] if word is not None else places[:0]
            if not len(places):
                return length
        return len(ids)


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
