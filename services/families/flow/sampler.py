"""Owns the passes of an image flow: drawing from latents, and measuring given images. Each answers a batch of rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from services.families.flow.model import ImageFlow, log_normal, over_classes
from services.families.flow.params import (
    DrawParams,
    EmbeddingChunk,
    EmbeddingParams,
    End,
    GivenEnd,
    ScoreChunk,
    ScoreParams,
    SeededEnd,
)
from services.families.flow.pixels import MIDDLE, dequantisation_noise, to_units
from services.nn.images import ImageChunk, to_pixels
from services.nn.latents import lerp, slerp
from services.nn.rng import row_generator

ENTRIES = 64  # at a time: an image of unknown class takes as many as there are classes


class ImagePass:
    """What all passes of an image flow have: the flow, in its own dtype and on its device."""

    def __init__(self, flow: ImageFlow) -> None:
        self.flow = flow

    def measure(self, images: Sequence[Tensor], labels: Sequence[Sequence[int]]) -> list[tuple[Tensor, Tensor]]:
        """Of each image, values float32 (1, S, S): latents (L, D) and log-likelihoods (L,), one of each of its labels.

        On the CPU.
        """
        weight = next(self.flow.parameters())
        values = torch.stack([image for image, each in zip(images, labels, strict=True) for _ in each])
        weights = torch.stack([self.one_hot(label) for each in labels for label in each])
        latents: list[Tensor] = []
        nats: list[Tensor] = []
        for part, classes in zip(values.split(ENTRIES), weights.split(ENTRIES), strict=True):
            z, log_det = self.flow(part.to(weight), classes.to(weight))
            latents.append(z.cpu())
            nats.append((log_normal(z) + log_det).cpu())
        counts = [len(each) for each in labels]
        return list(zip(torch.cat(latents).split(counts), torch.cat(nats).split(counts), strict=True))

    def places(self, ends: Sequence[GivenEnd]) -> list[tuple[Tensor, int]]:
        """Of each given image the latent (D,) of its likeliest class, and that class.

        Nothing random is added to the image: drawn from its latent again, it is the image that was given.
        """
        measured = self.measure([end.pixels + MIDDLE for end in ends], [end.labels for end in ends])
        found: list[tuple[Tensor, int]] = []
        for end, (latents, nats) in zip(ends, measured, strict=True):
            best = int(nats.argmax())
            found.append((latents[best], end.labels[best]))
        return found

    def one_hot(self, label: int) -> Tensor:
        """float32 (K,) on the CPU."""
        weights = torch.zeros(len(self.flow.config.classes))
        weights[label] = 1.0
        return weights


class DrawPass(ImagePass):
    """Implements `services.nn.one_shot.Pass` for images and frames: classes and temperatures share it."""

    def __call__(self, rows: Sequence[DrawParams]) -> list[ImageChunk | None]:
        weight = next(self.flow.parameters())
        # Frames of one request share their ends: each is measured once.
        given = list(dict.fromkeys(end for row in rows for end in (row.start, row.end) if isinstance(end, GivenEnd)))
        places = dict(zip(given, self.places(given), strict=True)) if given else {}
        ends = [tuple(self._place(end, row.temperature, places) for end in (row.start, row.end)) for row in rows]
        latent = torch.stack(
            [slerp(start[0], end[0], row.position) for row, (start, end) in zip(rows, ends, strict=True)]
        )
        weights = torch.stack(
            [lerp(start[1], end[1], row.position) for row, (start, end) in zip(rows, ends, strict=True)]
        )
        values = self.flow.inverse(latent.to(weight), weights.to(weight))
        finite = values.isfinite().flatten(1).all(dim=1).tolist()
        return [
            row.drawing.chunk(pixels) if is_finite else None
            for row, pixels, is_finite in zip(rows, to_pixels(to_units(values)), finite, strict=True)
        ]

    def _place(self, end: End, temperature: float, places: dict[GivenEnd, tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        """The latent (D,) and class weights (K,) of an end, on the CPU."""
        if isinstance(end, SeededEnd):
            normal = torch.randn(self.flow.config.dimensions, generator=row_generator(end.seed))
            return normal * temperature, self.one_hot(end.label)
        latent, label = places[end]
        return latent.float(), self.one_hot(label)


class ScorePass(ImagePass):
    """Implements `services.nn.one_shot.Pass`: log-likelihoods of dequantised images."""

    def __init__(self, flow: ImageFlow) -> None:
        super().__init__(flow)
        side = flow.config.side
        self._noise = dequantisation_noise((1, side, side))

    def __call__(self, rows: Sequence[ScoreParams]) -> list[ScoreChunk | None]:
        measured = self.measure([row.pixels + self._noise for row in rows], [row.labels for row in rows])
        values = [over_classes(nats.double()[None])[0] for _, nats in measured]
        dimensions = self.flow.config.dimensions
        return [
            ScoreChunk(float(value), dimensions, given_class=len(row.labels) == 1) if value.isfinite() else None
            for row, value in zip(rows, values, strict=True)
        ]


class EmbeddingPass(ImagePass):
    """Implements `services.nn.one_shot.Pass`: latents, the coarsest scale first."""

    def __call__(self, rows: Sequence[EmbeddingParams]) -> list[EmbeddingChunk | None]:
        latents = [latent for latent, _ in self.places([row.image for row in rows])]
        return [
            EmbeddingChunk(tuple(latent[: row.dimensions].tolist()), row.encoding) if latent.isfinite().all() else None
            for row, latent in zip(rows, latents, strict=True)
        ]
