"""Owns what a forecast's row needs to run."""

from __future__ import annotations

from dataclasses import dataclass

from services.families.recurrent.forecasts.scaling import ScaledSeries
from services.nn.forecasts import Times


@dataclass(frozen=True, slots=True, eq=False)
class ForecastParams:
    """One series: what was observed, which of the next values are asked for (1 is the next), and how it is said.

    `times` are the client's own, one for each of the increasing `steps`.
    """

    series: ScaledSeries
    steps: tuple[int, ...]
    times: Times
    quantiles: tuple[float, ...]
    samples: int
    seed: int
    task: str = "forecast"

    @property
    def cost(self) -> float:
        """A value read, or told of one path, is the unit."""
        return float(len(self.series.values) + self.samples * self.steps[-1])
