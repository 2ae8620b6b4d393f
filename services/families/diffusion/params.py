"""Owns what a row needs to run: plain data between tasks and sampler."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from services.families.diffusion.denoiser import Prompt, Shape
from services.nn.images import Pixels, Writing
from services.nn.solvers import SolverTable


@dataclass(frozen=True, slots=True)
class Blend:
    """The other end of an interpolation, and how far the row is on its way there: 0 is the start, 1 the end."""

    seed: int
    prompt: Prompt
    weight: float


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """The image that a row starts from: float32 (C, H, W) in [-1, 1], at the size of the result."""

    image: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """Where the image may change: bool (H, W). `pixels` (H, W, C) are what stays elsewhere."""

    free: NDArray[np.bool_]
    pixels: Pixels


@dataclass(frozen=True, slots=True, eq=False)
class ImageParams:
    """One image. The table holds the steps that are taken; its length is their number.

    `noise_seed` draws the noise that the image starts from; `seed` is told to the client, and draws what else there is.
    """

    task: str
    seed: int
    noise_seed: int
    prompt: Prompt
    negative: Prompt | None  # None: no guidance
    guidance_scale: float
    table: SolverTable
    latent: Shape
    writing: Writing
    previews: frozenset[int] = frozenset()  # after which steps
    source: Source | None = None
    starts_from_noise: bool = True  # nothing of the source is in the first sample
    mask: Mask | None = None
    blend: Blend | None = None

    @property
    def prompts(self) -> frozenset[Prompt]:
        """All that the model reads for the row."""
        blend = () if self.blend is None else (self.blend.prompt,)
        negative = () if self.negative is None else (self.negative,)
        return frozenset((self.prompt, *negative, *blend))

    @property
    def entries(self) -> int:
        """Samples that the row puts into each forward pass."""
        return 1 if self.negative is None else 2

    @property
    def cost(self) -> float:
        """In forward passes of one sample."""
        return float(len(self.table) * self.entries)
