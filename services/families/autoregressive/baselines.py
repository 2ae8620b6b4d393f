"""Owns what a WaveNet's bits are compared with: codes drawn alone, and a linear predictor of a few samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from services.families.autoregressive.mulaw import CODES, SILENCE

ORDER = 16  # samples that the linear predictor sees


def unigram_bits(train: Sequence[Tensor], told: Sequence[Tensor]) -> float:
    """Bits that a code of `told` takes by how often each of the 256 is in `train`, one added to each count."""
    counts = torch.bincount(torch.cat(list(train)), minlength=CODES).double() + 1
    return _bits(counts, torch.cat(list(told)))


def linear_bits(train: Sequence[Tensor], told: Sequence[Tensor]) -> float:
    """The same of what is left by the best linear predictor of a code from the ORDER before it, by least squares."""
    pasts, codes = _pasts(train)
    weights = torch.linalg.lstsq(pasts, codes).solution
    counts = torch.bincount(_left(pasts, codes, weights), minlength=2 * CODES).double() + 1
    return _bits(counts, _left(*_pasts(told), weights))


def _pasts(clips: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The ORDER codes before each and a one, float64 (N, ORDER + 1), and each code (N, 1), of clips after silence."""
    centred = [torch.nn.functional.pad(clip.double() - SILENCE, (ORDER, 0)) for clip in clips]
    pasts = torch.cat([clip.unfold(0, ORDER, 1)[:-1] for clip in centred])
    return torch.cat([pasts, torch.ones(len(pasts), 1)], dim=1), torch.cat([clip[ORDER:] for clip in centred])[:, None]


def _left(pasts: Tensor, codes: Tensor, weights: Tensor) -> Tensor:
    """int64 (N,): how far each code is from its prediction, from 0 on."""
    return ((codes - pasts @ weights)[:, 0].round().long() + CODES).clamp(0, 2 * CODES - 1)


def _bits(counts: Tensor, values: Tensor) -> float:
    return -(counts / counts.sum()).log()[values].mean().item() / math.log(2)
