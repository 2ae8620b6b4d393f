"""Owns the way from one latent to another. Never sees a network."""

from __future__ import annotations

import torch
from torch import Tensor


def lerp(start: Tensor, end: Tensor, position: float) -> Tensor:
    """The straight way: `position` 0 is `start` and 1 is `end`, both exactly."""
    return start * (1 - position) + end * position


def slerp(start: Tensor, end: Tensor, position: float) -> Tensor:
    """Along the great circle through latents (Z,) (Shoemake 1985), their lengths changing linearly.

    A straight line between Gaussian latents would pass near the origin, where no image was ever trained (White 2016,
    arXiv:1609.04468). Latents (nearly) in line have no great circle: the straight way is taken.
    """
    if position in (0.0, 1.0):
        return lerp(start, end, position)  # the ends themselves, without rounding
    lengths = start.norm(), end.norm()
    cosine = torch.dot(start, end) / (lengths[0] * lengths[1]).clamp(min=1e-12)
    angle = torch.acos(cosine.clamp(-1, 1))
    sine = torch.sin(angle)
    if sine < 1e-4:
        return lerp(start, end, position)
    first, second = torch.sin((1 - position) * angle) / sine, torch.sin(position * angle) / sine
    direction = first * start / lengths[0] + second * end / lengths[1]
    return direction * lerp(lengths[0], lengths[1], position)
