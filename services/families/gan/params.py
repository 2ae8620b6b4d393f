"""Owns what a row needs to run: plain data between tasks and sampler. Never sees a tensor."""

from __future__ import annotations

from dataclasses import dataclass

from services.nn.canvas import Drawing


@dataclass(frozen=True, slots=True)
class Point:
    """Where an image is drawn from: the seed of a latent, and a class by its number."""

    seed: int
    label: int


@dataclass(frozen=True, slots=True)
class ImageParams:
    """One image: `position` of the way from `start` (0) to `end` (1), its latent scaled by `truncation`."""

    task: str
    start: Point
    end: Point
    position: float
    truncation: float
    drawing: Drawing

    @property
    def cost(self) -> float:
        """A pass is the unit."""
        return 1.0
