"""Owns a series in units of its own: values about their recent level, in deviations from it. No network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_RECENT = 8  # values at least that the level is the mean of
_LEAST_UNIT = 1e-3  # of a step, in deviations: a series that never changes has one, too


@dataclass(frozen=True, slots=True, eq=False)
class ScaledSeries:
    """Values float32 (N,), how many of them a season has (1: there is none), and the way back.

    A value x of the client's is `level + scale * value`. `unit` is what a naive forecast is usually wrong by, in
    deviations: the smaller of the mean changes from value to value and from season to season.
    """

    values: Tensor
    season: int
    level: float
    scale: float
    unit: float

    def values_of(self, values: Tensor) -> Tensor:
        """float64 of the same shape: the model's values in the client's unit."""
        return self.level + self.scale * values.double()

    def scaled(self, values: Tensor) -> Tensor:
        """float64: the other way round."""
        return (values.double() - self.level) / self.scale


def scale_series(values: Sequence[float] | Tensor, season: int) -> ScaledSeries:
    """Of two observations at least.

    The paper divides by the mean alone, which leaves nothing to see of a season that is small beside the level.
    """
    observed = torch.as_tensor(values, dtype=torch.float64)
    level = observed[-max(season, _RECENT) :].mean()
    deviation = (observed - level).square().mean().sqrt()
    scale = deviation if deviation > 0 else torch.ones_like(deviation)
    scaled = (observed - level) / scale
    changes = [scaled.diff().abs().mean()]
    if 1 < season < len(scaled):
        changes.append((scaled[season:] - scaled[:-season]).abs().mean())
    unit = max(_LEAST_UNIT, torch.stack(changes).min().item())
    return ScaledSeries(scaled.float(), season, level.item(), scale.item(), unit)
