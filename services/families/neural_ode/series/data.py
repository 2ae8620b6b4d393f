"""Owns the observed series that a latent ODE learns, and windows of them, thinned to irregular times.

What a window is to tell lies in one part of its series; what it observed may lie before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from services.families.neural_ode.series.scaling import ScaledSeries, scale_series
from services.training.series_data import Part, Record, co2, equipment, sea_temperature, sunspots

SHORTEST, LONGEST = 24, 96  # observations that a window is thinned from
FEWEST = 8  # that are left of them
LEAST_AHEAD = 4  # observations that follow a window


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What was observed, and what followed; all float64."""

    times: Tensor
    values: Tensor
    later_times: Tensor
    later_values: Tensor

    def scaled(self) -> ScaledSeries:
        return scale_series(self.times.tolist(), self.values.tolist())


def lasts_of(record: Record, part: Part) -> range:
    """The indices at which a window of this part may end."""
    indices = record.part(part)
    return range(max(indices.start, SHORTEST) - 1, indices.stop - LEAST_AHEAD)


def draw_window(record: Record, last: int, part: Part, horizon: float, draws: torch.Generator) -> Window:
    """A window that ends at index `last`: of a random length, thinned at random, and all that follows in the part.

    It is told at most `horizon` mean intervals ahead.
    """
    length = int(torch.randint(min(SHORTEST, last), min(LONGEST, last) + 1, (1,), generator=draws))
    share = 0.4 + 0.6 * torch.rand(1, generator=draws)
    kept = torch.rand(length, generator=draws) < share
    kept[:: max(1, length // FEWEST)] = True
    rows = torch.arange(last - length + 1, last + 1)[kept | (torch.arange(length) == length - 1)]
    times = record.times[rows]
    gap = (times[-1] - times[0]) / (len(times) - 1)
    later = torch.arange(last + 1, record.part(part).stop)
    later = later[record.times[later] <= times[-1] + horizon * gap]
    return Window(times, record.values[rows], record.times[later], record.values[later])


def held_out_windows(record: Record, count: int, horizon: float) -> list[Window]:
    """`count` windows, evenly spaced over the held-out part, the same each time."""
    lasts = lasts_of(record, "held_out")
    draws = torch.Generator().manual_seed(0)
    chosen = [lasts[i * len(lasts) // count] for i in range(count)]
    return [draw_window(record, last, "held_out", horizon, draws) for last in chosen]


def read_statsmodels(package: Path) -> list[Record]:
    """Four series of the unpacked wheel of statsmodels; observations that are missing are left out."""
    return [sunspots(package), co2(package), sea_temperature(package), equipment(package)]
