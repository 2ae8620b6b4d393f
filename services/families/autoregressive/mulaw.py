"""Owns the way from samples to the 256 codes that the network reads and draws, and back (ITU-T G.711's mu-law)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

CODES = 256
SILENCE = CODES // 2  # the code of 0
_MU = CODES - 1


def to_codes(samples: Tensor) -> Tensor:
    """float in [-1, 1] -> int64 of the same shape, 0 to 255: sign(x) ln(1 + mu |x|) / ln(1 + mu), rounded."""
    bent = samples.sign() * torch.log1p(_MU * samples.abs()) / math.log1p(_MU)
    return ((bent + 1) / 2 * _MU + 0.5).floor().long().clamp(0, _MU)


def levels() -> Tensor:
    """What each code stands for, float32 (256,) in [-1, 1], on the CPU."""
    bent = torch.arange(CODES, dtype=torch.float64, device="cpu") / _MU * 2 - 1
    return (bent.sign() * torch.expm1(bent.abs() * math.log1p(_MU)) / _MU).float()
