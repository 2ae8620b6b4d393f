"""Owns what a row needs to run, and its grid: how a solver goes from the last observation to all times asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from services.families.neural_ode.series.scaling import ScaledSeries
from services.nn.forecasts import Times


@dataclass(frozen=True, slots=True)
class Grid:
    """Steps of a solver, each of its width; `marks[i]` is how many steps lead to target i."""

    widths: tuple[float, ...]
    marks: tuple[int, ...]

    @classmethod
    def of(cls, targets: Sequence[float], max_step: float) -> Grid:
        """From 0 to each of the increasing targets, in as few equal steps as keep below `max_step`."""
        widths: list[float] = []
        marks: list[int] = []
        before = 0.0
        for target in targets:
            count = max(1, math.ceil((target - before) / max_step))
            widths += [(target - before) / count] * count
            marks.append(len(widths))
            before = target
        return cls(tuple(widths), tuple(marks))


@dataclass(frozen=True, slots=True, eq=False)
class ForecastParams:
    """One series: what was observed, at which `times` (the client's) it is told, and how it is said."""

    series: ScaledSeries
    times: Times
    grid: Grid
    quantiles: tuple[float, ...]
    samples: int
    seed: int
    task: str = "forecast"

    @property
    def cost(self) -> float:
        """A solver step of a path is the unit."""
        return float(self.samples * len(self.grid.widths))
