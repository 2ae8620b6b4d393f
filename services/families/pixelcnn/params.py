"""Owns what a row needs to run: plain data between tasks and sampler. Never sees a network.

A "row" of a request is an image, a level or a score; a row of a grid is a line of its cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from services.nn.canvas import Drawing
from services.nn.images import Pixels

Values = NDArray[np.int64]  # (H, W): of each cell, which of the model's values it has
FREE = -1  # in place of a value: the model draws one


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """What an edit keeps: values (H, W) as the model reads them, FREE where it draws; pixels uint8 (H, W, 1)."""

    values: Values
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class ImageParams:
    """One image."""

    task: str
    drawing: Drawing
    temperature: float
    given: Given | None = None

    @property
    def cost(self) -> float:
        """A row of pixels is the unit."""
        return float(self.drawing.steps)

    @property
    def seed(self) -> int:
        return self.drawing.seed

    @property
    def label(self) -> int:
        return self.drawing.label

    @property
    def given_values(self) -> Values | None:
        return None if self.given is None else self.given.values


@dataclass(frozen=True, slots=True)
class LevelParams:
    """One level of `height` rows, drawn anew until it is well-formed, `attempts` times at most."""

    seed: int
    temperature: float
    attempts: int
    height: int
    task: str = "level"

    @property
    def cost(self) -> float:
        """A row of tiles is the unit; what a level takes is known only afterwards, so all its attempts count."""
        return float(self.attempts * self.height)

    @property
    def label(self) -> int:
        return 0

    @property
    def given_values(self) -> Values | None:
        return None


@dataclass(frozen=True, slots=True, eq=False)
class ScoreParams:
    """One given grid, values int64 (H, W): its likelihood given a class, or over all `classes`."""

    values: Tensor
    label: int | None
    classes: int
    task: str = "score"

    @property
    def cost(self) -> float:
        """A pass over the whole grid, of which every class needs one, counts as a drawn row."""
        return 1.0 if self.label is not None else float(self.classes)


DrawParams = ImageParams | LevelParams
AnyParams = DrawParams | ScoreParams
