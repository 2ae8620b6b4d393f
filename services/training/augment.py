"""Owns differentiable augmentation: what lets a discriminator learn from few images (Zhao 2020, arXiv:2006.10738).

Real and generated images are changed alike, each by draws of its own, and gradients flow through; so the generator
learns the images as they are, not as they are augmented.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Augmentation = Literal["colour", "translation", "cutout"]


def augment(images: Tensor, kinds: Sequence[Augmentation], generator: torch.Generator) -> Tensor:
    """images (B, C, H, W) in [-1, 1] -> the same shape."""
    changes = {"colour": _colour, "translation": _translation, "cutout": _cutout}
    for kind in kinds:
        images = changes[kind](images, generator)
    return images


def _uniform(images: Tensor, generator: torch.Generator) -> Tensor:
    """(B, 1, 1, 1) in [0, 1)."""
    return torch.rand(len(images), 1, 1, 1, generator=generator).to(images.device, images.dtype)


def _integers(images: Tensor, low: int, high: int, generator: torch.Generator) -> Tensor:
    """(B, 1) in [low, high]."""
    return torch.randint(low, high + 1, (len(images), 1), generator=generator).to(images.device)


def _colour(images: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness by up to a half, saturation from none to double, contrast from a half to one and a half."""
    images = images + (_uniform(images, generator) - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = (images - grey) * (_uniform(images, generator) * 2) + grey
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * (_uniform(images, generator) + 0.5) + mean


def _translation(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift by up to an eighth of the side in each direction; the border's pixels fill what was outside."""
    side = images.shape[-1]
    most = side // 8
    rows = torch.arange(side, device=images.device) + _integers(images, 0, 2 * most, generator)  # (B, H)
    columns = torch.arange(side, device=images.device) + _integers(images, 0, 2 * most, generator)  # (B, W)
    padded = functional.pad(images, (most, most, most, most), mode="replicate")
    each = torch.arange(len(images), device=images.device)[:, None, None]
    shifted = padded.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]]  # (B, H, W, C)
    return shifted.permute(0, 3, 1, 2)


def _cutout(images: Tensor, generator: torch.Generator) -> Tensor:
    """Grey out a square of half the side, centred anywhere."""
    side = images.shape[-1]
    quarter = side // 4
    span = torch.arange(side, device=images.device)
    in_rows = (span - _integers(images, 0, side - 1, generator)).abs() <= quarter  # (B, H)
    in_columns = (span - _integers(images, 0, side - 1, generator)).abs() <= quarter  # (B, W)
    hidden = in_rows[:, None, :, None] & in_columns[:, None, None, :]
    return images.masked_fill(hidden, 0.0)
