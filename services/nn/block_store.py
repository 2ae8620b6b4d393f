"""Owns which blocks of keys and values are kept, and which one goes first. Never sees a slot, a prompt or a budget."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor


class BlockStore:
    """Blocks by key, in the order of their last use.

    A chain of keys stands for a prompt from its first block on. A block is of use only while all before it are here, so
    a use of a chain counts last for its first block: of two blocks of a chain, the later one goes first.
    """

    def __init__(self) -> None:
        self._blocks: OrderedDict[bytes, Tensor] = OrderedDict()  # the one used longest ago comes first
        self._nbytes = 0

    def __len__(self) -> int:
        return len(self._blocks)

    def __contains__(self, key: bytes) -> bool:
        return key in self._blocks

    def __getitem__(self, key: bytes) -> Tensor:
        return self._blocks[key]

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def use(self, chain: Sequence[bytes]) -> int:
        """How many of the chain's blocks are here, from its first on without a gap. They are the last used now."""
        found = next((i for i, key in enumerate(chain) if key not in self._blocks), len(chain))
        for key in reversed(chain[:found]):
            self._blocks.move_to_end(key)
        return found

    def put(self, chain: Sequence[bytes], block: Tensor) -> None:
        """Keep the last block of a chain whose other blocks are here."""
        self._blocks[chain[-1]] = block
        self._nbytes += block.nbytes
        self.use(chain)

    def shrink(self, nbytes: int) -> None:
        """Let blocks go, the one used longest ago first, until the rest hold at most so many bytes."""
        while self._nbytes > nbytes:
            _, block = self._blocks.popitem(last=False)
            self._nbytes -= block.nbytes
