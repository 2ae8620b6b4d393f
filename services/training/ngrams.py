"""Owns n-gram models of tokens, as baselines: interpolated by Witten and Bell's rule. Never sees a network.

Witten and Bell 1991 (doi:10.1109/18.87000), as Chen and Goodman 1998 write it: with N(h) times that history h was met
and T(h) tokens that followed it, p(w | h) = (count(h, w) + T(h) p(w | h')) / (N(h) + T(h)), h' being h without its
first token, and p of no history at all uniform.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Tokens = Sequence[int] | Ints


@dataclass(frozen=True, slots=True, eq=False)
class _Order:
    """Of the n-grams of one length, by sorted code: how often each occurs. By history: how often, and its followers."""

    grams: Ints
    counts: Ints
    histories: Ints
    totals: Ints
    followers: Ints


class NgramModel:
    """Told by up to `order` - 1 tokens before. A document's first token is given, and told by nothing."""

    def __init__(self, documents: Sequence[Tokens], order: int, vocabulary: int) -> None:
        """Ids are in [0, vocabulary). Raises ValueError for an order that 64 bits cannot hold."""
        if (vocabulary + 1) ** order >= 2**63:
            raise ValueError(f"{order}-grams of {vocabulary} tokens do not fit into 64 bits")
        self._base, self._order = vocabulary + 1, order
        self._orders = [self._counted(documents, length) for length in range(1, order + 1)]

    def counts(self, order: int) -> int:
        """How many numbers a model of this order holds: one for each n-gram of each length up to it."""
        return sum(len(counted.grams) for counted in self._orders[:order])

    def document_bits(self, documents: Sequence[Tokens]) -> list[float]:
        """-log2 p of all tokens but each document's first, by every order from 1 on: bits[order - 1]."""
        bits: list[float] = []
        told = np.full(sum(len(document) - 1 for document in documents), 1.0 / (self._base - 1))
        for length, counted in enumerate(self._orders, start=1):
            codes = self._codes(documents, length)
            found, at = _find(counted.grams, codes)
            count = np.where(found, counted.counts[at], 0)
            known, at = _find(counted.histories, codes // self._base)
            total, followers = counted.totals[at], counted.followers[at]
            told = np.where(known, (count + followers * told) / (total + followers), told)
            bits.append(float(-np.log2(told).sum()))
        return bits

    def _counted(self, documents: Sequence[Tokens], length: int) -> _Order:
        grams, counts = np.unique(self._codes(documents, length), return_counts=True)
        histories, first = np.unique(grams // self._base, return_index=True)
        followers = np.diff(first, append=len(grams))
        return _Order(grams, counts, histories, np.add.reduceat(counts, first), followers)

    def _codes(self, documents: Sequence[Tokens], length: int) -> Ints:
        """A number for each token after a document's first and the `length` - 1 before it; 0: before the document."""
        codes: list[Ints] = []
        for document in documents:
            ids = np.concatenate([np.zeros(length - 1, np.int64), np.asarray(document, np.int64) + 1])
            code = np.zeros(len(document) - 1, np.int64)
            for back in range(length):
                code = code * self._base + ids[1 + back : 1 + back + len(code)]
            codes.append(code)
        return np.concatenate(codes)


def _find(among: Ints, wanted: Ints) -> tuple[NDArray[np.bool_], Ints]:
    """Whether each is there, and where; any place for one that is not."""
    at = np.searchsorted(among, wanted).clip(max=len(among) - 1)
    return among[at] == wanted, at
