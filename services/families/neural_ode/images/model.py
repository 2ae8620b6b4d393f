"""Owns the velocity field: a transformer over patches of an image. Never sees a request, nor a solver."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from services.families.neural_ode import solvers
from services.nn.classes import ImageClass
from services.nn.weights import ModelShape

MODEL_TYPE = "castalia-ode-flow"
_PARTS = 6  # of a block's modulation: shift, scale and gate, of attention and of the layers behind it


class FlowConfig(ModelShape):
    """Content of config.json. Images are squares of `image_size` pixels; a token stands for `patch` by `patch` of them.

    Each token sees, and draws, as many pixels again around its own: neighbours overlap, so that no seam shows.
    """

    model_type: Literal["castalia-ode-flow"] = MODEL_TYPE
    classes: Annotated[tuple[ImageClass, ...], Field(min_length=1)]
    channels: Literal[1, 3]
    image_size: int = Field(ge=1)
    patch: int = Field(ge=2, multiple_of=2)
    width: int = Field(ge=8, multiple_of=2)
    depth: int = Field(ge=1)
    heads: int = Field(ge=1)

    @property
    def side(self) -> int:
        """Tokens in a row, and rows of them."""
        return self.image_size // self.patch

    @property
    def tokens(self) -> int:
        return self.side**2

    @property
    def dimensions(self) -> int:
        """Numbers of an image."""
        return self.channels * self.image_size**2


class Block(nn.Module):
    """Attention and two layers, each shifted, scaled and gated by the condition (Peebles & Xie 2023, arXiv:2212.09748).

    It begins as a block that passes tokens through.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.modulation = nn.Linear(width, _PARTS * width)
        self.to_qkv = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (B, T, W), condition (B, W) -> (B, T, W)."""
        parts = self.modulation(condition)[:, None].chunk(_PARTS, dim=-1)  # six of (B, 1, W)
        x = x + parts[2] * self._attend(_modulate(x, parts[0], parts[1]))
        return x + parts[5] * self.layers(_modulate(x, parts[3], parts[4]))

    def _attend(self, x: Tensor) -> Tensor:
        b, t, w = x.shape
        q, k, v = self.to_qkv(x).view(b, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)  # (B, H, T, D)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return self.attended(mixed.transpose(1, 2).reshape(b, t, w))


class VelocityField(nn.Module):
    """dx/dt of a flow from noise (time 0) to images (time 1), given a class or none; rows are independent.

    It is the field that would make every pixel a Gaussian of its own, and what a transformer adds: the network need
    not learn to pass noise through, nor what a pixel is like wherever nothing else matters.
    """

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        width, patch = config.width, config.patch
        shape = (config.channels, config.image_size, config.image_size)
        self.mean = nn.Parameter(torch.zeros(shape))
        self.deviation = nn.Parameter(torch.ones(shape))
        self.patches = nn.Conv2d(config.channels, width, 2 * patch, stride=patch, padding=patch // 2)
        # Of each class and of none, the last: where on an image a class is what says much of how it begins.
        self.places = nn.Parameter(torch.randn(len(config.classes) + 1, config.tokens, width) * 0.02)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.class_embedding = nn.Parameter(torch.randn(len(config.classes) + 1, width) * 0.3)
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.depth))
        self.last_modulation = nn.Linear(width, 2 * width)
        self.velocity = nn.ConvTranspose2d(width, config.channels, 2 * patch, stride=patch, padding=patch // 2)
        modulations = [layer for name, layer in self.named_modules() if name.endswith("modulation")]
        for layer in (*modulations, self.velocity):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    @property
    def no_class(self) -> int:
        """The class by number that stands for none: over all of them."""
        return len(self.config.classes)

    def forward(self, x: Tensor, time: Tensor, class_weights: Tensor) -> Tensor:
        """x (B, C, H, W), time (B,) in [0, 1], class_weights (B, K + 1), a class being a one-hot row -> (B, C, H, W).

        Rows of class_weights that mix classes embed them linearly. The result has the dtype of x.
        """
        weights = class_weights.to(self.patches.weight)
        told = self.time(_waves(time, self.config.width).to(weights)) + weights @ self.class_embedding
        condition = functional.silu(told)  # (B, W)
        places = (weights @ self.places.flatten(1)).unflatten(1, self.places.shape[1:])
        tokens = self.patches(x.to(weights)).flatten(2).transpose(1, 2) + places  # (B, T, W)
        for block in self.blocks:
            tokens = block(tokens, condition)
        shift, scale = self.last_modulation(condition)[:, None].chunk(2, dim=-1)
        drawn = _modulate(tokens, shift, scale).transpose(1, 2).unflatten(2, (self.config.side, self.config.side))
        added = self.velocity(drawn)
        return self._gaussian(x, time.to(x.dtype)[:, None, None, None]) + added.to(x.dtype)

    @torch.no_grad()
    def fit(self, data: Tensor) -> None:
        """Begin as the flow to a Gaussian of each pixel of `data` (N, C, H, W)."""
        self.mean.copy_(data.mean(0))
        self.deviation.copy_(data.std(0))

    def _gaussian(self, x: Tensor, t: Tensor) -> Tensor:
        """E[x_1 - x_0 | x_t = x] where x_1 is Gaussian in each pixel, in closed form."""
        mean, variance = self.mean.to(x.dtype), self.deviation.to(x.dtype).square()
        slope = (t * variance - (1 - t)) / ((1 - t) ** 2 + t**2 * variance)
        return mean + slope * (x - t * mean)

    def given(self, class_weights: Tensor) -> solvers.Field:
        """The field of flat images (B, D) of these classes (B, K + 1)."""
        config = self.config

        def field(x: Tensor, time: Tensor) -> Tensor:
            images = x.view(-1, config.channels, config.image_size, config.image_size)
            return self(images, time, class_weights).flatten(1)

        return field

    def one_hot(self, classes: Tensor) -> Tensor:
        """int64 (B,), `no_class` among them -> float32 (B, K + 1)."""
        return functional.one_hot(classes, len(self.config.classes) + 1).float()


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x (B, T, W) normalised per token, then scaled and shifted by the row's (B, 1, W)."""
    return torch.addcmul(shift, functional.layer_norm(x, x.shape[-1:]), 1 + scale)


def _waves(time: Tensor, width: int) -> Tensor:
    """Times (B,) in [0, 1] as sines and cosines (B, W) of geometric frequencies (Vaswani 2017, section 3.5)."""
    half = width // 2
    # float64, as the times are: 1000 t in float32 would tell apart what is one time.
    frequencies = torch.exp(torch.arange(half, dtype=torch.float64, device=time.device) * (-math.log(1e4) / half))
    angles = 1000 * time.double()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)
