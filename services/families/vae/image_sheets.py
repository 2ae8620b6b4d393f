"""Owns the pictures of a card: samples by class, truncation, reconstructions, interpolations. Measures nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from services.families.vae.image_bulk import draw, draw_classes, reconstruct
from services.families.vae.image_model import ImageVae
from services.nn.latents import slerp
from services.training.image_data import ImageSet
from services.training.sheets import grid


def class_sheet(vae: ImageVae, *, columns: int) -> Image.Image:
    """A row a class, each image from a latent of its own."""
    names = [each.name for each in vae.config.classes]
    classes = torch.arange(len(names)).repeat_interleave(columns)
    return grid(draw_classes(vae, classes), columns, names)


def truncation_sheet(vae: ImageVae, *, columns: int, scales: Sequence[float]) -> Image.Image:
    """A row a truncation, the same draws and classes in every row."""
    classes = torch.arange(columns) % len(vae.config.classes)
    images = torch.cat([draw_classes(vae, classes, truncation=scale) for scale in scales])
    return grid(images, columns, [f"truncation {scale:g}" for scale in scales])


def reconstruction_sheet(vae: ImageVae, images: ImageSet, *, columns: int, rows: int) -> Image.Image:
    """Pairs of rows: given images, and below each what is drawn from the mean of its posterior."""
    spread = torch.linspace(0, len(images) - 1, columns * rows).long()
    given = images.subset(spread)
    pairs = torch.stack([given.units(), reconstruct(vae, given.images)])  # (2, N, C, H, W)
    lines = pairs.unflatten(1, (rows, columns)).transpose(0, 1)  # (rows, 2, columns, C, H, W)
    return grid(lines.flatten(0, 2), columns, ["held-out", "reconstructed"] * rows)


@torch.inference_mode()
def interpolation_sheet(vae: ImageVae, images: ImageSet, *, columns: int, rows: int) -> Image.Image:
    """A row a pair of given images: frames from the one (left) to the other."""
    spread = torch.linspace(0, len(images) - 1, 2 * rows).long()
    centre = vae.prior.mean.mean(0)
    ends = vae.encode(images.images[spread]).mean - centre
    positions = torch.linspace(0, 1, columns).tolist()
    latent = torch.stack([slerp(ends[i], ends[i + rows], at) for i in range(rows) for at in positions])
    return grid(draw(vae, centre + latent), columns, [""] * rows)
