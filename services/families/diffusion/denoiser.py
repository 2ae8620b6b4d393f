"""Owns the names that every kind of checkpoint gives the sampler and the tasks. Never sees a request or a file.

A latent is what is denoised: pixels for a model that draws them directly, an autoencoder's code for others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from services.nn.noise_schedules import NoiseSchedule
from shared.schemas.images import Solver

Condition = tuple[Tensor, ...]  # what the model is told besides sample and time; no batch dimension
Shape = tuple[int, int, int]  # (C, H, W)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as the model's tokenizers read it: padded ids of each. Without ids: told nothing at all."""

    ids: tuple[tuple[int, ...], ...]
    tokens: int  # how many of them the text made; 0 for none


@dataclass(frozen=True, slots=True)
class Canvas:
    """What a model can draw. Sizes are (width, height) in pixels; a latent's cell covers `factor` x `factor` pixels."""

    size: tuple[int, int]  # what it draws when nothing is asked for
    channels: int  # of the image
    latent_channels: int
    factor: int = 1
    multiple: int = 1  # both sides of a size
    max_side: int | None = None
    fixed: bool = False  # draws `size` alone

    def latent(self, size: tuple[int, int]) -> Shape:
        width, height = size
        return self.latent_channels, height // self.factor, width // self.factor


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a request that leaves these out gets."""

    steps: int
    guidance_scale: float
    solver: Solver


class Denoiser(Protocol):
    """A checkpoint's modules, on their device. The engine's thread alone calls it, but for `read`."""

    @property
    def dtype(self) -> torch.dtype:
        """Of what `predict` takes and gives."""
        ...

    @property
    def device(self) -> torch.device: ...
    @property
    def images_a_step(self) -> int:
        """How many images one step encodes or decodes at most: what bounds a step's memory and length."""
        ...

    @property
    def prompts_a_step(self) -> int:
        """How many prompts that no running row has one step encodes at most; those of one row are never split."""
        ...

    @property
    def guides(self) -> bool:
        """Whether it can be told nothing, which is what classifier-free guidance leads away from."""
        ...

    @property
    def blends(self) -> bool:
        """Whether there is a way from one prompt's condition to another's."""
        ...

    @property
    def unprompted(self) -> Prompt:
        """What guidance leads away from when the request does not say."""
        ...

    def read(self, text: str, param: str) -> Prompt:
        """Tokenise. Any thread. Raises InvalidRequest, naming `param`, for what the model cannot read whole."""
        ...

    def encode(self, prompts: Sequence[Prompt]) -> list[Condition]:
        """What the model is told for each prompt; all of equal shapes."""
        ...

    def predict(self, x: Tensor, time: Tensor, conditions: Sequence[Condition]) -> Tensor:
        """The model's output for x (B, C, H, W) at time (B,) float64, of x's shape."""
        ...

    def to_latents(self, images: Tensor) -> Tensor:
        """From images (B, C, H, W) in [-1, 1] to latents (B, *shape), deterministic."""
        ...

    def to_images(self, latents: Tensor) -> Tensor:
        """From latents to images (B, C, H, W), about [-1, 1]."""
        ...

    def memory(self, latent: Shape) -> int:
        """Bytes that one sample takes at most while it is predicted, counted generously."""
        ...

    def codec_memory(self, latent: Shape) -> int:
        """Bytes that encoding or decoding `images_a_step` images takes at most."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model ready to be served: its modules, and what its files say of how to use them."""

    denoiser: Denoiser
    canvas: Canvas
    schedule: NoiseSchedule
    defaults: Defaults


def stacked(conditions: Sequence[Condition]) -> list[Tensor]:
    """Conditions as batches (B, ...)."""
    return [torch.stack(parts) for parts in zip(*conditions, strict=True)]


def blended(start: Condition, end: Condition, weight: float) -> Condition:
    """The way from one condition to another, `weight` of it: linear in the embeddings."""
    return tuple(torch.lerp(a, b, weight) for a, b in zip(start, end, strict=True))
