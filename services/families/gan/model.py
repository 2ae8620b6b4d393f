"""Owns the generator. Never sees a request, nor the discriminator."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from services.nn.classes import ImageClass
from services.nn.weights import ModelShape

MODEL_TYPE = "castalia-gan"
_SLOPE = 0.2  # of leaky ReLUs


class GeneratorConfig(ModelShape):
    """Content of config.json. Images are squares of `base_size` pixels, doubled once for each of the widths."""

    model_type: Literal["castalia-gan"] = MODEL_TYPE
    classes: Annotated[tuple[ImageClass, ...], Field(min_length=1)]
    channels: Literal[1, 3]
    base_size: int = Field(ge=1)
    widths: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
    latent_size: int = Field(ge=1)
    style_size: int = Field(ge=1)

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return self.base_size * 2 ** len(self.widths)


class ModulatedUpsample(nn.Module):
    """Doubles height and width, then normalises each pixel over its channels and modulates it by the style.

    A layer norm of each pixel (as the pixel norm of Karras 2018, arXiv:1710.10196) with a style's scale and shift (as
    AdaIN, Huang 2017, arXiv:1703.06868): unlike batch norm it takes no statistic of other rows.
    """

    def __init__(self, width: int, out_width: int, style_size: int) -> None:
        super().__init__()
        # A kernel of 4 at stride 2 covers every pixel equally often: no checkerboard.
        self.upsample = nn.ConvTranspose2d(width, out_width, kernel_size=4, stride=2, padding=1)
        self.modulation = nn.Linear(style_size, 2 * out_width)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """x (B, C, H, W), style (B, S) -> (B, C', 2H, 2W)."""
        return _modulate(self.upsample(x), self.modulation(style))


class Generator(nn.Module):
    """From a latent and a class to an image, in one pass; every row is computed independently of the others."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        size, first = config.style_size, config.widths[0]
        self.class_embedding = nn.Parameter(torch.randn(len(config.classes), size))  # (K, S)
        self.mapping = nn.Sequential(
            nn.Linear(config.latent_size + size, size),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(size, size),
            nn.LeakyReLU(_SLOPE),
        )
        self.base = nn.Linear(config.latent_size + size, first * config.base_size**2)
        self.base_modulation = nn.Linear(size, 2 * first)
        self.blocks = nn.ModuleList(ModulatedUpsample(a, b, size) for a, b in pairwise(config.widths))
        self.to_image = nn.ConvTranspose2d(config.widths[-1], config.channels, kernel_size=4, stride=2, padding=1)

    def forward(self, latent: Tensor, class_weights: Tensor) -> Tensor:
        """latent (B, Z), standard normal; class_weights (B, K), a class being a one-hot row -> images in [-1, 1].

        Rows of class_weights that mix classes embed them linearly. Images are (B, C, H, W) in the weights' dtype.
        """
        embedding = class_weights @ self.class_embedding  # (B, S)
        inputs = torch.cat([latent, embedding], dim=1)
        style = self.mapping(inputs)
        side = self.config.base_size
        x = self.base(inputs).view(-1, self.config.widths[0], side, side)
        x = _modulate(x.contiguous(memory_format=torch.channels_last), self.base_modulation(style))
        for block in self.blocks:
            x = block(x, style)
        return torch.tanh(self.to_image(x))


def _modulate(x: Tensor, modulation: Tensor) -> Tensor:
    """x (B, C, H, W) normalised per pixel, then scaled and shifted by modulation (B, 2C), then a leaky ReLU."""
    last = x.permute(0, 2, 3, 1)  # (B, H, W, C): a view, as images are channels_last; one kernel normalises it
    normal = functional.layer_norm(last, last.shape[-1:])
    scale, shift = modulation[:, None, None, :].chunk(2, dim=-1)
    return functional.leaky_relu(torch.addcmul(shift, normal, 1 + scale), _SLOPE).permute(0, 3, 1, 2)


def one_hot(classes: Tensor, count: int) -> Tensor:
    """int64 (B,) -> float32 (B, K)."""
    return functional.one_hot(classes, count).float()
