"""Owns what a row needs to run: plain data between tasks and sampler."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from services.nn.canvas import Drawing
from shared.config.neural_ode import GRADIENT_PASSES


@dataclass(frozen=True, slots=True)
class Point:
    """Where an image flows from: the seed of its noise, and a class by its number."""

    seed: int
    label: int


@dataclass(frozen=True, slots=True)
class ImageParams:
    """One image: `position` of the way from `start` (0) to `end` (1), its noise scaled by `temperature`.

    `evaluations` of the field make a step.
    """

    task: str
    start: Point
    end: Point
    position: float
    temperature: float
    evaluations: int
    drawing: Drawing

    @property
    def steps(self) -> int:
        return self.drawing.steps

    @property
    def paths(self) -> int:
        return 1

    @property
    def step_cost(self) -> float:
        """A pass of the field over one image is the unit."""
        return float(self.evaluations)

    @property
    def cost(self) -> float:
        return self.steps * self.step_cost


@dataclass(frozen=True, slots=True, eq=False)
class ScoreParams:
    """One image's log-likelihood: `levels` uint8 (C, H, W), given a class by its number, or none.

    Each of `samples` draws is a path: a dequantisation and a probe of its own, both of `seed`.
    """

    levels: Tensor
    label: int | None
    samples: int
    seed: int
    steps: int
    evaluations: int
    task: str = "score"

    @property
    def paths(self) -> int:
        return self.samples

    @property
    def step_cost(self) -> float:
        return float(self.samples * self.evaluations * GRADIENT_PASSES)

    @property
    def cost(self) -> float:
        return self.steps * self.step_cost
