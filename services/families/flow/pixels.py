"""Owns the step between 8-bit pixels and the continuous values that a density is of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from services.families.flow.logits import LEVELS
from services.nn.rng import row_generator

MIDDLE = 0.5  # of a pixel's unit: what is added where no likelihood is asked for


def dequantisation_noise(shape: Sequence[int]) -> Tensor:
    """float32 of `shape`, uniform in [0, 1): what is added to an image to score it (Theis 2016, arXiv:1511.01844).

    It is the same for every image and every request, so that a score is a number of the image alone. The mean over
    images of log p(x + u) is a lower bound of the mean log-probability of the 8-bit images themselves (section 3.1).
    """
    return torch.rand(tuple(shape), generator=row_generator(0))


def to_units(values: Tensor) -> Tensor:
    """Values (B, C, H, W) of a flow -> the 8-bit pixels that they stand for, in [-1, 1]; what is outside is cut off."""
    return values.floor().clamp(0, LEVELS - 1) / ((LEVELS - 1) / 2) - 1
