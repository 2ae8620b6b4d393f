"""Owns a series in units of its own: values about their mean in deviations, times in mean intervals. No network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FEATURES = 3  # of an observation


@dataclass(frozen=True, slots=True, eq=False)
class ScaledSeries:
    """Observations float32 (N, 3): value, interval since the one before, logarithm of that; and the way back.

    A value x of the client's is `mean + scale * value`; a time t is `last + gap * time`, 0 being the last observation.
    """

    observations: Tensor
    mean: float
    scale: float
    gap: float
    last: float

    def times_of(self, times: Sequence[float]) -> list[float]:
        return [(time - self.last) / self.gap for time in times]

    def values_of(self, values: Tensor) -> Tensor:
        """float64 of the same shape: the model's values in the client's unit."""
        return self.mean + self.scale * values.double()

    def scaled(self, values: Tensor) -> Tensor:
        """The other way round."""
        return (values.double() - self.mean) / self.scale


def scale_series(times: Sequence[float], values: Sequence[float]) -> ScaledSeries:
    """Of at least two observations at increasing times. A series that never changes keeps its unit."""
    clock, observed = (torch.tensor(each, dtype=torch.float64) for each in (times, values))
    gap = (clock[-1] - clock[0]).item() / (len(clock) - 1)
    mean, deviation = observed.mean(), observed.std(correction=0)
    scale = deviation if deviation > 0 else torch.ones_like(deviation)
    intervals = torch.cat([clock.new_zeros(1), clock.diff() / gap])
    observations = torch.stack([(observed - mean) / scale, intervals, torch.log1p(intervals)], dim=1)
    return ScaledSeries(observations.float(), mean.item(), scale.item(), gap, clock[-1].item())
