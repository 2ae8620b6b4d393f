"""Owns the tasks that one pass answers beside scores: what hidden units say of an image, and what they make of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from services.families.boltzmann.params import EmbeddingParams, Features, ReconstructionParams, Restored
from services.families.boltzmann.reading import Reader
from services.nn.images import Pixels, to_pixels


class EmbeddingPass:
    """Implements `services.nn.one_shot.Pass`: the means of the hidden units, layer by layer."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def __call__(self, rows: Sequence[EmbeddingParams]) -> list[Features | None]:
        hidden = self.reader.read(torch.stack([row.visible for row in rows])).hidden.cpu()
        finite = hidden.isfinite().all(dim=1).tolist()
        return [
            Features(values[: row.dimensions], row.encoding) if is_finite else None
            for row, values, is_finite in zip(rows, hidden, finite, strict=True)
        ]


class ReconstructionPass:
    """Implements `services.nn.one_shot.Pass`: up to the hidden units' means, and down to the pixels'."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def __call__(self, rows: Sequence[ReconstructionParams]) -> list[Restored | None]:
        means = self.reader.reconstruct(self.reader.read(torch.stack([row.visible for row in rows])))
        finite = means.isfinite().all(dim=1).tolist()
        return [
            row.restoration.chunk(pixels) if is_finite else None
            for row, pixels, is_finite in zip(rows, grey(means), finite, strict=True)
        ]


def grey(means: Tensor) -> list[Pixels]:
    """Means of pixels in [0, 1] (B, S * S) -> uint8 (S, S, 1) each: 0 is black and 1 is white, exactly."""
    side = round(means.shape[1] ** 0.5)
    return to_pixels((2 * means - 1).view(-1, 1, side, side))
