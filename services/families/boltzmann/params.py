"""Owns what a row needs to run: plain data between tasks and sampler, and what a row gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from services.nn.canvas import Drawing
from services.nn.images import ImageChunk, Pixels, Writing
from shared.schemas.scores import Metric


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """The image that a chain starts from, bool (D,). `known` (D,) says where it stays so; None: nowhere."""

    visible: Tensor
    known: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Restoration:
    """How a reconstruction is handed over: beside the image as it was read, bool (S, S), and written as asked."""

    given: NDArray[np.bool_]
    writing: Writing
    seed: int | None = None

    def chunk(self, pixels: Pixels) -> Restored:
        """`pixels` uint8 (S, S, 1)."""
        error = float(np.square(pixels[..., 0] / 255 - self.given).mean())
        return Restored(pixels, error, self.writing, self.seed)


@dataclass(frozen=True, slots=True, eq=False)
class Restored:
    """A reconstruction; `error` is the mean squared error over pixels in [0, 1]."""

    pixels: Pixels
    error: float
    writing: Writing
    seed: int | None


@dataclass(frozen=True, slots=True, eq=False)
class ChainParams:
    """One chain. Without a label its class is the likeliest one of its origin. `seed` is of all that is drawn."""

    task: str
    seed: int
    label: int | None
    sweeps: int
    temperature: float
    outcome: Drawing | Restoration
    origin: Origin | None = None
    previews: frozenset[int] = field(default=frozenset())  # after which sweeps

    @property
    def cost(self) -> float:
        """A sweep is the unit."""
        return float(self.sweeps)

    def chunk(self, pixels: Pixels, sweep: int) -> ImageChunk | Restored:
        if isinstance(self.outcome, Restoration):
            return self.outcome.chunk(pixels)
        return self.outcome.chunk(pixels, step=None if sweep == self.sweeps else sweep)


@dataclass(frozen=True, slots=True, eq=False)
class ReconstructionParams:
    """One image, up to the hidden units' means and down again."""

    visible: Tensor  # bool (D,)
    restoration: Restoration
    task: str = "reconstruction"
    cost: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingParams:
    """One image whose hidden units are asked for: the first `dimensions` of them."""

    visible: Tensor  # bool (D,)
    dimensions: int
    encoding: Literal["float", "base64"]
    task: str = "embedding"
    cost: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Means of hidden units, (dimensions,)."""

    values: Tensor
    encoding: Literal["float", "base64"]


@dataclass(frozen=True, slots=True, eq=False)
class ScoreParams:
    """One image whose likelihood is asked for, under a class or over all. `samples`: the pixels that are drawn."""

    visible: Tensor  # bool (D,)
    metric: Metric
    label: int | None
    samples: int
    seed: int
    cost: float
    task: str = "score"


RowParams = ChainParams | ReconstructionParams | EmbeddingParams | ScoreParams
