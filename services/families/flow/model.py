"""Owns the flow of images: an invertible map from pixel values to a normal latent. Never sees a request."""

from __future__ import annotations

import math
from typing import Annotated, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from services.families.flow import haar
from services.families.flow.details import DETAILS, DetailConfig, DetailFlow
from services.families.flow.logits import from_logits, to_logits
from services.families.flow.vectors import SplineConfig, VectorFlow
from services.nn.classes import ImageClass
from services.nn.weights import ModelShape

MODEL_TYPE = "castalia-image-flow"


class ImageFlowConfig(ModelShape):
    """Content of config.json. Images are grey squares of `side` pixels, halved once a scale; `alpha` as `to_logits`.

    `scales` are of details, the finest first; `coarse` is of what is left at the coarsest.
    """

    model_type: Literal["castalia-image-flow"] = MODEL_TYPE
    classes: Annotated[tuple[ImageClass, ...], Field(min_length=1)]
    side: int = Field(ge=1)
    scales: tuple[DetailConfig, ...]
    alpha: float = Field(gt=0, lt=0.5)
    coarse: SplineConfig

    @property
    def dimensions(self) -> int:
        """Of the latent: a number for each pixel."""
        return self.side**2

    @model_validator(mode="after")
    def _halves_evenly(self) -> ImageFlowConfig:
        halvings = len(self.scales)
        if self.side % 2**halvings or self.side // 2**halvings < 2:
            raise ValueError(f"side {self.side} cannot be halved {halvings} times to 2 or more")
        return self


class ImageFlow(nn.Module):
    """Pixel values, given a class, to a latent that is standard normal, and back; rows are independent.

    A multi-scale flow: at each scale the image is split into means of 2x2 blocks and details (Haar). Details go
    through affine couplings given the means, the coarsest means through splines. log p(x) = log N(f(x); 0, 1) +
    log |det df/dx| (Dinh 2017, arXiv:1605.08803, eq. 2).
    """

    def __init__(self, config: ImageFlowConfig) -> None:
        super().__init__()
        self.config = config
        classes = len(config.classes)
        sides = [config.side // 2 ** (i + 1) for i in range(len(config.scales))]
        self.details = nn.ModuleList(
            DetailFlow(side, classes, scale) for side, scale in zip(sides, config.scales, strict=True)
        )
        self.coarse_side = config.side // 2 ** len(sides)
        self.coarse = VectorFlow(self.coarse_side**2, classes, config.coarse)
        self._sides = sides

    def forward(self, values: Tensor, class_weights: Tensor) -> tuple[Tensor, Tensor]:
        """values (B, 1, S, S): pixels from 0 to 255 plus noise in [0, 1); class_weights (B, K), a class being one-hot.

        Returns z (B, D), the coarsest scale first, and log |det dz/dvalues| (B,).
        """
        image, log_det = to_logits(values, self.config.alpha)
        latents: list[Tensor] = []
        for flow in self.details:  # from fine to coarse
            image, details = haar.halve(image)
            z, change = flow(details, image, class_weights)
            latents.append(z.flatten(1))
            log_det = log_det + change + details[0].numel() / DETAILS * haar.LOG_DET_PER_BLOCK
        z, change = self.coarse(image.flatten(1), class_weights)
        return torch.cat([z, *reversed(latents)], dim=1), log_det + change

    def inverse(self, z: Tensor, class_weights: Tensor) -> Tensor:
        """z (B, D) -> values (B, 1, S, S), which for latents that no image has may lie outside of [0, 256)."""
        sizes = [self.coarse_side**2, *(DETAILS * side**2 for side in reversed(self._sides))]
        coarse, *latents = z.split(sizes, dim=1)
        image = self.coarse.inverse(coarse, class_weights).unflatten(1, (1, self.coarse_side, self.coarse_side))
        for flow, part in zip(reversed(list(self.details)), latents, strict=True):
            latent = part.unflatten(1, (DETAILS, *image.shape[2:]))
            details = cast(DetailFlow, flow).inverse(latent, image, class_weights)
            image = haar.double(image, details)
        return from_logits(image, self.config.alpha)

    def log_likelihood(self, values: Tensor, class_weights: Tensor) -> Tensor:
        """Nats (B,) of the density over pixel values, given the class. Exact, up to rounding."""
        z, log_det = self(values, class_weights)
        return log_normal(z) + log_det


def log_normal(z: Tensor) -> Tensor:
    """(B, D) -> log density (B,) of a standard normal."""
    return -0.5 * (z.square() + math.log(2 * math.pi)).sum(dim=1)


def one_hot(classes: Tensor, count: int) -> Tensor:
    """int64 (B,) -> float32 (B, K)."""
    return functional.one_hot(classes, count).float()


def over_classes(log_likelihoods: Tensor) -> Tensor:
    """log p(x) (B,) of log p(x | y) (B, K), all classes being as frequent: what an empty prompt draws from."""
    return log_likelihoods.logsumexp(dim=1) - math.log(log_likelihoods.shape[1])
