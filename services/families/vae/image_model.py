"""Owns the autoencoder of images. Never sees a request."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from services.families.vae.bounds import ClassPrior, Posterior
from services.families.vae.logistic import FAR, logistic_log_mass, single
from services.nn.classes import ImageClass
from services.nn.weights import ModelShape

MODEL_TYPE = "castalia-image-vae"
_SLOPE = 0.2  # of leaky ReLUs
_GROUPS = 8
_HALF = 1 / 255  # of the way from a level to the next
_MIN_LOG_SCALE = -5.0


class ImageVaeConfig(ModelShape):
    """Content of config.json. Images are squares of `base_size` pixels, doubled once for each of the widths.

    `widths` are the decoder's layers from the smallest images on; the encoder has them in reverse.
    """

    model_type: Literal["castalia-image-vae"] = MODEL_TYPE
    classes: Annotated[tuple[ImageClass, ...], Field(min_length=1)]
    channels: Literal[1, 3]
    base_size: int = Field(ge=1)
    widths: Annotated[tuple[Annotated[int, Field(ge=_GROUPS, multiple_of=_GROUPS)], ...], Field(min_length=1)]
    latent_size: int = Field(ge=1)
    components: int = Field(ge=1, description="Gaussians of the prior of a class")

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return self.base_size * 2 ** len(self.widths)

    @property
    def numbers(self) -> int:
        """How many 8-bit numbers an image has: the dimensions that bits are counted by."""
        return self.channels * self.image_size**2


class ImageVae(nn.Module):
    """Implements `services.families.vae.bounds.LatentModel` for data uint8 (B, C, H, W).

    Each number of an image is a logistic variable, rounded to 8 bits, whose place and scale the decoder gives; the
    picture that a latent is drawn as shows the places.
    """

    def __init__(self, config: ImageVaeConfig) -> None:
        super().__init__()
        self.config = config
        first = config.widths[0]
        flat = first * config.base_size**2
        self.encoder = nn.Sequential(
            *(_halve(a, b) for a, b in pairwise((config.channels, *reversed(config.widths)))),
            nn.Flatten(),
            nn.Linear(flat, 2 * config.latent_size),
        )
        self.decoder = nn.Sequential(
            nn.Linear(config.latent_size, flat),
            nn.Unflatten(1, (first, config.base_size, config.base_size)),
            *(_layer(_double(a, b), b) for a, b in pairwise(config.widths)),
            _double(config.widths[-1], 2 * config.channels),
        )
        self.prior = ClassPrior(len(config.classes), config.components, config.latent_size)

    def encode(self, data: Tensor) -> Posterior:
        units = _units(data, self._dtype)
        mean, log_std = self.encoder(units.contiguous(memory_format=torch.channels_last)).chunk(2, dim=1)
        return Posterior(single(mean), single(log_std))

    def decode(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Places and logarithms of scales, each (B, C, H, W), of latents (B, Z); places of pixels are in [-1, 1]."""
        place, log_scale = self.decoder(latent.to(self._dtype)).chunk(2, dim=1)
        return single(place), single(log_scale).clamp(min=_MIN_LOG_SCALE)

    def log_likelihood(self, data: Tensor, latent: Tensor) -> Tensor:
        place, log_scale = self.decode(latent)
        units = _units(data, place.dtype)
        # The first and the last level take the tails.
        low, high = (units - _HALF).masked_fill(data == 0, -FAR), (units + _HALF).masked_fill(data == 255, FAR)
        return logistic_log_mass(low, high, place, log_scale).flatten(1).sum(1)

    def log_prior(self, latent: Tensor, log_classes: Tensor) -> Tensor:
        return self.prior.log_density(latent, log_classes)

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


def _units(data: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 as numbers in [-1, 1]."""
    return data.to(dtype) / 127.5 - 1


def _double(width: int, out_width: int) -> nn.Module:
    # A kernel of 4 at stride 2 covers every pixel equally often: no checkerboard.
    return nn.ConvTranspose2d(width, out_width, kernel_size=4, stride=2, padding=1)


def _halve(width: int, out_width: int) -> nn.Module:
    return _layer(nn.Conv2d(width, out_width, kernel_size=4, stride=2, padding=1), out_width)


def _layer(layer: nn.Module, width: int) -> nn.Sequential:
    """Normalised by groups within a row: no statistic of other rows."""
    return nn.Sequential(layer, nn.GroupNorm(_GROUPS, width), nn.LeakyReLU(_SLOPE))
