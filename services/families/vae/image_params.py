"""Owns what a row of images needs to run: plain data between tasks and passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from services.nn.canvas import Drawing
from services.nn.images import Writing
from shared.schemas.scores import Metric


@dataclass(frozen=True, slots=True)
class Seeded:
    """A latent that a seed draws from the prior of a class."""

    seed: int
    label: int


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """The latent of an image uint8 (C, H, W)."""

    image: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Near:
    """A latent near that of an image uint8 (C, H, W): `strength` says how far the seed takes it, from 0 to 1.

    The way leads towards a draw from the Gaussian of the prior that the image is likeliest of: of a class, or with
    `label` None of all classes.
    """

    image: Tensor
    strength: float
    seed: int
    label: int | None


Point = Seeded | Given | Near


@dataclass(frozen=True, slots=True)
class DrawParams:
    """An image that is drawn: at a point, or `position` of the way from the first of two points (0) to the other (1).

    `truncation` scales what seeds draw.
    """

    task: str
    points: tuple[Point] | tuple[Point, Point]
    position: float
    truncation: float
    drawing: Drawing

    @property
    def cost(self) -> float:
        """A pass of the decoder is the unit."""
        return 1.0


@dataclass(frozen=True, slots=True, eq=False)
class EmbedParams:
    """An image uint8 (C, H, W) whose latent is wanted, its first `dimensions` numbers."""

    task: str
    image: Tensor
    dimensions: int
    encoding: Literal["float", "base64"]

    @property
    def cost(self) -> float:
        """A pass of the encoder counts as one of the decoder."""
        return 1.0


@dataclass(frozen=True, slots=True, eq=False)
class ReconstructParams:
    """An image uint8 (C, H, W) that is to be drawn as the model sees it."""

    task: str
    image: Tensor
    writing: Writing

    @property
    def cost(self) -> float:
        return 1.0


@dataclass(frozen=True, slots=True, eq=False)
class ScoreParams:
    """An image uint8 (C, H, W) that is scored by `samples` draws from its posterior.

    `label` None is over all classes. `compares`: the score is of the kind that the model's known ones are.
    """

    task: str
    image: Tensor
    metric: Metric
    label: int | None
    samples: int
    seed: int
    compares: bool

    @property
    def cost(self) -> float:
        return float(self.samples)
