"""Owns randomness: one generator a row, seeded from its request alone. Never a global seed."""

from __future__ import annotations

import hashlib
import secrets
import struct

import torch


def derive_seed(seed: int | None, index: int) -> int:
    """The seed of row `index` of a request: a hash of (seed, index), or fresh entropy when the request gave none.

    Rows of neighbouring seeds share nothing: (0, 1) and (1, 0) hash apart. Result in [0, 2**63).
    """
    if seed is None:
        return secrets.randbits(63)
    digest = hashlib.blake2b(struct.pack("<qq", seed, index), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def image_seed(seed: int | None, index: int) -> int:
    """The seed that an image's row draws from, and that clients are told.

    Row 0 draws from the request's own seed, so that a row's seed, sent as a request's with `n` 1, gives its image
    again. Derived and fresh ones stay below 2**53, which every JSON reader keeps.
    """
    if seed is not None and index == 0:
        return seed
    return derive_seed(seed, index) >> 10


def row_generator(seed: int) -> torch.Generator:
    """A CPU generator: draws do not depend on the device that computes, nor on batch-mates."""
    return torch.Generator(device="cpu").manual_seed(seed)
