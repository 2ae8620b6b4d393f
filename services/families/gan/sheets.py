"""Owns the pictures of a model's card: samples by class, interpolations, truncation. Never measures anything."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from services.families.gan.drawing import draw, draw_classes, latents
from services.families.gan.model import Generator, one_hot
from services.nn.latents import lerp, slerp
from services.training.sheets import grid


def class_sheet(generator: Generator, *, columns: int) -> Image.Image:
    """A row a class, each image from a latent of its own."""
    names = [each.name for each in generator.config.classes]
    classes = torch.arange(len(names)).repeat_interleave(columns)
    images, _ = draw_classes(generator, classes)
    return grid(images, columns, names)


def interpolation_sheet(generator: Generator, *, columns: int, rows: int) -> Image.Image:
    """A row a pair of latents, from a class (left) to the next (right)."""
    count = len(generator.config.classes)
    ends = latents(generator, 2 * rows)
    weights = one_hot(torch.arange(2 * rows) % count, count)
    positions = torch.linspace(0, 1, columns).tolist()
    latent = torch.stack([slerp(ends[2 * i], ends[2 * i + 1], at) for i in range(rows) for at in positions])
    mixed = torch.stack([lerp(weights[2 * i], weights[2 * i + 1], at) for i in range(rows) for at in positions])
    return grid(draw(generator, latent, mixed), columns, [""] * rows)


def truncation_sheet(generator: Generator, *, columns: int, scales: Sequence[float]) -> Image.Image:
    """A row a truncation, the same latents and classes in every row."""
    count = len(generator.config.classes)
    latent = latents(generator, columns)
    weights = one_hot(torch.arange(columns) % count, count)
    images = torch.cat([draw(generator, scale * latent, weights) for scale in scales])
    return grid(images, columns, [f"truncation {scale:g}" for scale in scales])
