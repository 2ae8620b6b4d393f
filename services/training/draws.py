"""Owns the randomness of training: which examples a step takes, and the generator that a step draws from.

Both are functions of the seed and the place in the run alone, so that a resumed run takes the same examples in the same
order, and draws what the uninterrupted one would have drawn.
"""

from __future__ import annotations

import hashlib
import struct

import torch
from torch import Tensor


def mix(seed: int, *parts: int) -> int:
    """A seed in [0, 2**63) from a seed and a place; neighbouring places share nothing."""
    digest = hashlib.blake2b(struct.pack(f"<{len(parts) + 1}q", seed, *parts), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator_at(seed: int, step: int, shard: int) -> torch.Generator:
    """The generator of one shard of a step."""
    return torch.Generator().manual_seed(mix(seed, step, shard))


def seed_dropout(device: torch.device, seed: int, step: int, phase: int, shard: int) -> None:
    """Seed torch's own generators before a phase: `nn.Dropout` can draw from nothing else.

    `torch.manual_seed` would also note the call, with a stack trace, for every kind of device that is not in use.
    """
    value = mix(seed, step, phase, shard)
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        torch.cuda.manual_seed(value)


class Shuffle:
    """The examples in a new order each epoch, cut into batches that may cross from one epoch into the next.

    Keeps the order of the epoch that was asked for last: asking for steps in turn shuffles once an epoch.
    """

    def __init__(self, examples: int, seed: int) -> None:
        if examples < 1:
            raise ValueError(f"there is nothing to train on: {examples} examples")
        self._examples, self._seed = examples, seed
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def indices(self, step: int, batch_size: int) -> Tensor:
        """(B,) int64: the examples of the step, counted from 0."""
        first, pieces, missing = step * batch_size, list[Tensor](), batch_size
        while missing:
            epoch, offset = divmod(first, self._examples)
            piece = self._epoch_order(epoch)[offset : offset + missing]
            pieces.append(piece)
            first, missing = first + len(piece), missing - len(piece)
        return torch.cat(pieces)

    def _epoch_order(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            # An epoch is no step: -1 keeps its seed apart from those of `generator_at`.
            generator = torch.Generator().manual_seed(mix(self._seed, epoch, -1))
            self._epoch, self._order = epoch, torch.randperm(self._examples, generator=generator)
        return self._order
