"""Owns the passes of an autoencoder of images, each over all its rows at once: drawing and reading images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from services.families.vae.bounds import BOUNDS, log_classes, log_weights
from services.families.vae.image_model import ImageVae
from services.families.vae.image_params import (
    DrawParams,
    EmbedParams,
    Given,
    Near,
    Point,
    ReconstructParams,
    ScoreParams,
    Seeded,
)
from services.nn.images import ImageChunk, Pixels, Writing, to_pixels
from services.nn.latents import slerp
from services.nn.percentiles import Known
from services.nn.rng import row_generator
from shared.schemas.scores import Score


class DrawPass:
    """Implements `services.nn.one_shot.Pass`: images, variations and frames are points of the same latent space."""

    def __init__(self, model: ImageVae) -> None:
        self.model = model

    def __call__(self, rows: Sequence[DrawParams]) -> list[ImageChunk | None]:
        latent = torch.stack(self.latents(rows)).to(_device(self.model))
        places, _ = self.model.decode(latent)
        finite = places.isfinite().flatten(1).all(dim=1).tolist()
        return [
            row.drawing.chunk(pixels) if is_finite else None
            for row, pixels, is_finite in zip(rows, to_pixels(places), finite, strict=True)
        ]

    def latents(self, rows: Sequence[DrawParams]) -> list[Tensor]:
        """(Z,) of each row, on the CPU."""
        points = [point for row in rows for point in row.points]
        images = {id(each.image): each.image for each in points if not isinstance(each, Seeded)}  # frames share them
        means = dict(zip(images, encode_means(self.model, list(images.values())), strict=True))
        return [self._latent(row, means) for row in rows]

    def _latent(self, row: DrawParams, means: Mapping[int, Tensor]) -> Tensor:
        ends = [self._point(point, means, row.truncation) for point in row.points]
        if len(ends) == 1:
            return ends[0]
        # Latents lie in a shell around where all classes together have their mean: the way keeps to it.
        centre = self.model.prior.mean.mean(0).cpu()
        return centre + slerp(ends[0] - centre, ends[1] - centre, row.position)

    def _point(self, point: Point, means: Mapping[int, Tensor], truncation: float) -> Tensor:
        """(Z,); `means` are those of images' posteriors."""
        match point:
            case Seeded():
                return self._drawn(point, truncation)
            case Given():
                return means[id(point.image)]
            case Near():
                return self.move(point, means[id(point.image)], truncation)

    def _drawn(self, point: Seeded, truncation: float) -> Tensor:
        draws, prior = row_generator(point.seed), self.model.prior
        component = point.label * prior.components + int(torch.randint(prior.components, (), generator=draws))
        mean, std = self._gaussian(component)
        return mean + truncation * std * torch.randn(len(mean), generator=draws)

    def move(self, point: Near, mean: Tensor, truncation: float) -> Tensor:
        """From `mean` (Z,) by a step that leaves its Gaussian of the prior as it is (Neal 1999, arXiv:1001.0175)."""
        centre, std = self._gaussian(self.model.prior.nearest(mean.to(_device(self.model)), point.label))
        kept = math.sqrt(1 - point.strength**2) * (mean - centre)
        noise = torch.randn(len(mean), generator=row_generator(point.seed))
        return centre + kept + point.strength * truncation * std * noise

    def _gaussian(self, component: int) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (Z,) of one of the prior's, on the CPU."""
        prior = self.model.prior
        return prior.mean[component].cpu(), prior.log_std[component].exp().cpu()


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingChunk:
    """vector (D,) on the CPU."""

    vector: Tensor
    encoding: Literal["float", "base64"]


class EmbedPass:
    """An image's embedding is the mean of its posterior."""

    def __init__(self, model: ImageVae) -> None:
        self.model = model

    def __call__(self, rows: Sequence[EmbedParams]) -> list[EmbeddingChunk | None]:
        means = encode_means(self.model, [row.image for row in rows])
        return [
            EmbeddingChunk(mean[: row.dimensions], row.encoding) if mean.isfinite().all() else None
            for row, mean in zip(rows, means, strict=True)
        ]


@dataclass(frozen=True, slots=True, eq=False)
class ReconstructionChunk:
    """`error`: mean squared error over the image's numbers, in [0, 1]."""

    pixels: Pixels
    writing: Writing
    error: float


class ReconstructPass:
    """An image is drawn again from the mean of its posterior: nothing is drawn at random."""

    def __init__(self, model: ImageVae) -> None:
        self.model = model

    def __call__(self, rows: Sequence[ReconstructParams]) -> list[ReconstructionChunk | None]:
        images = torch.stack([row.image for row in rows])
        places, _ = self.model.decode(self.model.encode(images.to(_device(self.model))).mean)
        finite = places.isfinite().flatten(1).all(dim=1).tolist()
        return [
            ReconstructionChunk(pixels, row.writing, _error(row.image, pixels)) if is_finite else None
            for row, pixels, is_finite in zip(rows, to_pixels(places), finite, strict=True)
        ]


class ScorePass:
    """Bounds on an image's log-likelihood from draws of its own."""

    def __init__(self, model: ImageVae, known: Mapping[str, Known]) -> None:
        self.model, self._known = model, known

    def __call__(self, rows: Sequence[ScoreParams]) -> list[Score | None]:
        device, size = _device(self.model), self.model.config.latent_size
        images = torch.stack([row.image for row in rows]).to(device)
        classes = log_classes([row.label for row in rows], len(self.model.config.classes)).to(device)
        noise = [torch.randn(row.samples, size, generator=row_generator(row.seed)).to(device) for row in rows]
        weights = log_weights(self.model, images, classes, noise)
        return [
            self._score(row, each.cpu()) if each.isfinite().all() else None
            for row, each in zip(rows, weights, strict=True)
        ]

    def _score(self, row: ScoreParams, weights: Tensor) -> Score:
        bound = BOUNDS[row.metric](weights)
        known = self._known.get(row.metric) if row.compares else None
        return Score(
            index=0,
            metric=row.metric,
            kind="lower_bound",
            value=bound.value,
            standard_error=bound.standard_error,
            bits_per_dimension=-bound.value / (self.model.config.numbers * math.log(2)),
            percentile=None if known is None else known.percentile(bound.value),
            seed=row.seed,
        )


def encode_means(model: ImageVae, images: Sequence[Tensor]) -> list[Tensor]:
    """(Z,) on the CPU of each image uint8 (C, H, W)."""
    return list(model.encode(torch.stack(list(images)).to(_device(model))).mean.cpu()) if images else []


def _error(image: Tensor, pixels: Pixels) -> float:
    drawn = torch.from_numpy(pixels).permute(2, 0, 1)
    return float(((image.double() - drawn.double()) / 255).square().mean())


def _device(model: ImageVae) -> torch.device:
    return next(model.parameters()).device
