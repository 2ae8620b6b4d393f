"""Owns the exact arithmetic of key-value cache memory: which shapes a budget admits. Never sees a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LayerShape:
    """One layer's cache: keys (slots, heads, length, key_dim) and values (slots, heads, length, value_dim)."""

    heads: int
    key_dim: int
    value_dim: int


@dataclass(frozen=True, slots=True)
class CacheBudget:
    """Which (slots, length) a cache may take: `limit` in bytes, `itemsize` of an element, lengths padded to `block`.

    The cache changes its shape one piece (a layer's keys or its values) after the other, each allocated before its
    predecessor is freed. Between two admitted shapes of a and b cells that holds at most max(a, b) * (all pieces +
    the largest piece) bytes, so a shape is admitted if it leaves room for one copy of its largest piece.
    """

    layers: Sequence[LayerShape]
    itemsize: int
    limit: int
    block: int = 64

    @property
    def pieces(self) -> list[int]:
        """Bytes of one cell (one token of one slot) in each piece."""
        return [n * layer.heads * self.itemsize for layer in self.layers for n in (layer.key_dim, layer.value_dim)]

    def padded(self, length: int) -> int:
        return -(-length // self.block) * self.block

    def size(self, slots: int, length: int) -> int:
        """Bytes of the whole cache at this shape; `length` is padded."""
        return slots * self.padded(length) * sum(self.pieces)

    def peak(self, slots: int, length: int) -> int:
        """Bytes at most while the cache changes from any admitted shape, no larger than this one, to this one."""
        return self.size(slots, length) + slots * self.padded(length) * max(self.pieces)

    def fits(self, slots: int, length: int) -> bool:
        return self.peak(slots, length) <= self.limit

    def longest(self) -> int:
        """The longest row, in tokens, that fits alone; 0 if not even one block does."""
        cell = sum(self.pieces) + max(self.pieces)
        return self.limit // (cell * self.block) * self.block
