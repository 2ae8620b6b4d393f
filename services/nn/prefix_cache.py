"""Owns the sharing of prompts' beginnings: their keys and values, block by block. Never sees a request or a text.

A block is a run of a prompt's tokens as long as the piece that a step reads, so that a row that finds a block goes on
exactly as if it had read it. A block's key names its tokens, all tokens before it and a salt: rows of unequal salts
share nothing.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence

from services.nn.kv_cache import SlotCache


def block_keys(salt: str, tokens: Sequence[int], size: int) -> tuple[bytes, ...]:
    """A key for each whole block of `size` tokens: SHA-256 over the key before it (first: of the salt) and its ids."""
    key = hashlib.sha256(salt.encode()).digest()
    keys: list[bytes] = []
    for start in range(0, len(tokens) - size + 1, size):
        key = hashlib.sha256(key + array("q", tokens[start : start + size]).tobytes()).digest()
        keys.append(key)
    return tuple(keys)


class PrefixCache:
    """Blocks of `size` tokens beside the slots of `cache`, within its budget: what rows need goes first.

    A chain holds the keys of a prompt's blocks from the first on, as `block_keys` makes them.
    """

    def __init__(self, cache: SlotCache, size: int) -> None:
        self.size = size
        self._cache, self._blocks = cache, cache.blocks
        self._block_bytes = size * sum(cache.budget.pieces)

    def use(self, chain: Sequence[bytes]) -> None:
        """Say that a row is about to want these: other blocks make room first."""
        self._blocks.use(chain)

    def resume(self, chain: Sequence[bytes], slot: int, length: int) -> int:
        """Copy what is kept of the chain behind a slot's first `length` tokens, whole blocks; return the new length."""
        done = length // self.size
        if done >= len(chain) or chain[done] not in self._blocks:
            return length
        found = self._blocks.use(chain)
        for i in range(done, found):
            self._cache.write_block(slot, i * self.size, (i + 1) * self.size, self._blocks[chain[i]])
        return max(length, found * self.size)

    def keep(self, chain: Sequence[bytes], slot: int) -> None:
        """Keep what a slot holds of the chain's last block, if the blocks before it are kept and all of them fit.

        A block with a value that is not finite is not kept. Logits do not tell: a key can be infinite behind a score of
        minus infinity, whose weight is 0.
        """
        if self._blocks.use(chain) != len(chain) - 1:
            return  # it is here, or one before it is not, and it would never be found
        spare = self._cache.spare
        if len(chain) * self._block_bytes > spare:
            return
        self._blocks.shrink(spare - self._block_bytes)  # none of the chain's own: they were used last, and fit
        stop = len(chain) * self.size
        block = self._cache.read_block(slot, stop - self.size, stop)
        low, high = block.aminmax()
        if low.isfinite() and high.isfinite():
            self._blocks.put(chain, block)
