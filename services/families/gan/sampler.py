"""Owns the one pass of a GAN: all its rows' images at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from services.families.gan.model import Generator
from services.families.gan.params import ImageParams, Point
from services.nn.images import ImageChunk, to_pixels
from services.nn.latents import lerp, slerp
from services.nn.rng import row_generator


class GeneratorPass:
    """Implements `services.nn.one_shot.Pass`: classes, truncations and both tasks are numbers of the same pass."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    def __call__(self, rows: Sequence[ImageParams]) -> list[ImageChunk | None]:
        weight = next(self.generator.parameters())  # its device and dtype are the generator's
        latent = torch.stack([self.latent(row) for row in rows]).to(weight)
        weights = torch.stack([self._class_weights(row) for row in rows]).to(weight)
        images = self.generator(latent, weights)
        finite = images.isfinite().flatten(1).all(dim=1).tolist()
        return [
            row.drawing.chunk(pixels) if is_finite else None
            for row, pixels, is_finite in zip(rows, to_pixels(images), finite, strict=True)
        ]

    def latent(self, row: ImageParams) -> Tensor:
        """float32 (Z,) on the CPU."""
        start, end = (self._normal(point) for point in (row.start, row.end))
        return slerp(start, end, row.position) * row.truncation

    def _class_weights(self, row: ImageParams) -> Tensor:
        """float32 (K,) on the CPU."""
        return lerp(self._one_hot(row.start), self._one_hot(row.end), row.position)

    def _normal(self, point: Point) -> Tensor:
        return torch.randn(self.generator.config.latent_size, generator=row_generator(point.seed))

    def _one_hot(self, point: Point) -> Tensor:
        weights = torch.zeros(len(self.generator.config.classes))
        weights[point.label] = 1.0
        return weights
