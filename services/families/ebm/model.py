"""Owns the energy of an image and a class, and its gradient. Never sees a request, nor how images are drawn."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from services.nn.classes import ImageClass
from services.nn.weights import ModelShape

MODEL_TYPE = "castalia-ebm"
ANY_CLASS = -1  # in place of a class's number: over all classes

_Width = Annotated[int, Field(ge=1)]


class EnergyConfig(ModelShape):
    """Content of config.json. Noise levels are standard deviations of pixels in [-1, 1].

    low: the energy is that of images with so much noise. high: where chains start. rate: the share of the way to the
    clean estimate that a sweep goes. sweeps: of a chain, where a request does not say.
    """

    model_type: Literal["castalia-ebm"] = MODEL_TYPE
    classes: Annotated[tuple[ImageClass, ...], Field(min_length=1)]
    channels: Literal[1, 3]
    image_size: int = Field(
        ge=4, description="height and width in pixels, a multiple of 2 for each width but the first"
    )
    widths: Annotated[tuple[_Width, ...], Field(min_length=2)]
    hidden: int = Field(ge=1)
    low: float = Field(gt=0)
    high: float = Field(gt=0)
    rate: float = Field(gt=0, lt=1)
    sweeps: int = Field(ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> EnergyConfig:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.image_size % self.shrinks:
            raise ValueError(f"image_size ({self.image_size}) must be a multiple of {self.shrinks}")
        return self

    @property
    def shrinks(self) -> int:
        """How many times larger an image's side is than the last stage's."""
        return 2 ** (len(self.widths) - 1)


class _Stage(nn.Module):
    """Halves height and width, then adds what neighbours tell. Swish: its gradient is smooth, as Langevin needs."""

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.shrink = nn.Conv2d(width, out_width, kernel_size=4, stride=2, padding=1)
        self.refine = nn.Conv2d(out_width, out_width, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H/2, W/2)."""
        x = functional.silu(self.shrink(x))
        return x + functional.silu(self.refine(x))


class EnergyNet(nn.Module):
    """E(x, y) = (|x - c|^2 / 2 - g(x, y)) / low^2: a Gaussian about the pixel mean c, tilted by a network g.

    Tilting: Xie et al. 2016 (arXiv:1602.03264). By Tweedie's formula x - low^2 dE/dx, which is c + dg/dx, is the mean
    of the clean images that x may be, if E is the energy of images with noise of deviation `low`: the gradient of g is
    a denoiser (Saremi & Hyvarinen 2019, arXiv:1903.02334). One pass gives all classes' energies; by them
    p(y | x) = softmax(-E(x, .)), as in JEM (Grathwohl 2020, arXiv:1912.03263).
    """

    centre: Tensor

    def __init__(self, config: EnergyConfig) -> None:
        super().__init__()
        self.config = config
        side = config.image_size // config.shrinks
        count, last = len(config.classes), config.widths[-1]
        self.register_buffer("centre", torch.zeros(config.channels, config.image_size, config.image_size))  # c
        self.first = nn.Conv2d(config.channels, config.widths[0], kernel_size=3, padding=1)
        self.stages = nn.ModuleList(_Stage(a, b) for a, b in pairwise(config.widths))
        self.template = nn.Linear(config.channels * config.image_size**2, count)
        # Every stage speaks for itself too: the fine ones know strokes, the coarse ones digits.
        self.local = nn.ModuleList(nn.Linear(width, count) for width in config.widths)
        self.whole = nn.Sequential(
            nn.Linear(last * side**2, config.hidden), nn.SiLU(), nn.Linear(config.hidden, config.hidden), nn.SiLU()
        )
        self.head = nn.Linear(config.hidden, count)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W), noised or not, around [-1, 1] -> energies (B, K) in nats, lower being likelier."""
        offset = images - self.centre
        bowl = offset.square().flatten(1).sum(dim=1, keepdim=True) / 2
        return (bowl - self._tilt(offset)) / self.config.low**2

    def _tilt(self, offset: Tensor) -> Tensor:
        """g (B, K)."""
        x = functional.silu(self.first(offset.contiguous(memory_format=torch.channels_last)))
        tilt = self.template(offset.flatten(1)) + self.local[0](x.sum(dim=(2, 3)))
        for stage, local in zip(self.stages, list(self.local)[1:], strict=True):
            x = stage(x)
            tilt = tilt + local(x.sum(dim=(2, 3)))
        return tilt + self.head(self.whole(x.flatten(1)))

    def residual(self, images: Tensor, labels: Tensor, *, create_graph: bool = False) -> Tensor:
        """low^2 dE/dx (B, C, H, W): how far each image is from its clean estimate.

        labels int64 (B,), ANY_CLASS being the energy over all classes. The energies are summed, so that a row's
        gradient is of its own alone. With `create_graph` a loss of it reaches the weights.
        """
        with torch.enable_grad():
            x = images.detach().requires_grad_()
            energy = energy_of(self(x), labels).sum()
            (gradient,) = torch.autograd.grad(energy, x, create_graph=create_graph)
        return gradient * self.config.low**2


def energy_of(energies: Tensor, labels: Tensor) -> Tensor:
    """energies (B, K), labels int64 (B,) -> (B,): of the class, or over all of them -log sum_y exp(-E(x, y))."""
    chosen = energies.gather(1, labels.clamp(min=0)[:, None])[:, 0]
    if (labels != ANY_CLASS).all():
        return chosen
    return torch.where(labels == ANY_CLASS, -torch.logsumexp(-energies, dim=1), chosen)
