"""Owns the way between 8-bit pixels and the space that a flow works in, and what the way does to a density.

A pixel k of 0 .. 255 is dequantised to u = (k + r) / 256 with r uniform in [0, 1) (Theis 2016, arXiv:1511.01844), and
taken to y = (logit(a + (1 - 2a) u)) / s (Dinh 2017, arXiv:1605.08803, section 4.1). Black and white then are as wide
as noise is, where in u they would be spikes that no field of bounded slope could reach.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEVELS = 256
_EDGE = 1e-5  # a: what keeps the logit finite
_SCALE = 6.0  # s: black and white come near -1 and 1


def to_space(levels: Tensor, rest: Tensor) -> Tensor:
    """uint8 levels (...) and uniform `rest` (...) in [0, 1) -> y, in the dtype of `rest`."""
    return torch.logit(_inside(levels, rest)) / _SCALE


def to_unit(y: Tensor) -> Tensor:
    """Images in [-1, 1], as `to_pixels` takes them, whose levels are floor(256 u)."""
    share = (torch.sigmoid(_SCALE * y) - _EDGE) / (1 - 2 * _EDGE)
    levels = (LEVELS * share).floor().clamp(0, LEVELS - 1)
    return levels / ((LEVELS - 1) / 2) - 1


def log_volume(levels: Tensor, rest: Tensor) -> Tensor:
    """log |dy / d(k + r)| summed over all but the first dimension: (B,) in nats.

    Added to log p(y), it gives the density of k + r, whose mean over r is a lower bound of log P(k).
    """
    share = _inside(levels, rest)
    slope = math.log((1 - 2 * _EDGE) / LEVELS / _SCALE) - torch.log(share) - torch.log1p(-share)
    return slope.flatten(1).sum(1)


def bits_per_dimension(nats: float, dimensions: int) -> float:
    """Of a log-likelihood of 8-bit pixels; 8 is what equal odds of all levels take."""
    return -nats / dimensions / math.log(2)


def _inside(levels: Tensor, rest: Tensor) -> Tensor:
    return _EDGE + (1 - 2 * _EDGE) * (levels.to(rest.dtype) + rest) / LEVELS
