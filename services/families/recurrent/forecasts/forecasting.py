"""Owns windows in bulk, for training and for measuring: batches, their loss, drawn paths. Serving has its sampler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from services.families.recurrent.forecasts.data import Window
from services.families.recurrent.forecasts.model import ForecastLstm, Traits, lags_of
from services.families.recurrent.forecasts.scaling import scale_series

_FORGIVEN = 4  # values that a model need not tell: nothing was seen yet
_SMALLEST = 1e-7  # of a uniform variable


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Windows in their own units: values float32 (B, T), padded at the end, and weights (B, T) of what counts."""

    values: Tensor
    weights: Tensor
    traits: Traits

    @classmethod
    def of(cls, windows: Sequence[tuple[Tensor, int, int]]) -> Batch:
        """Of values float64 (N,), how many of them set the scale, and how many a season has."""
        longest = max(len(values) for values, _, _ in windows)
        rows, weights, seasons, units = list[Tensor](), torch.zeros(len(windows), longest), list[int](), list[float]()
        for i, (values, shown, season) in enumerate(windows):
            scaled = scale_series(values[:shown], season)
            rows.append(nn.functional.pad(scaled.scaled(values).float(), (0, longest - len(values))))
            weights[i, _FORGIVEN : len(values)] = 1
            seasons.append(season)
            units.append(scaled.unit)
        return cls(torch.stack(rows), weights, Traits(torch.tensor(seasons), torch.tensor(units)))


def negative_log_likelihood(model: nn.Module, batch: Batch) -> Tensor:
    """-log p(x_t | x_<t), the mean over all that counts: the paper's equation 2."""
    at = torch.arange(batch.values.shape[1]).expand(batch.values.shape).to(batch.values.device)
    lags = lags_of(batch.values, at, at, batch.traits.season)
    told, _ = model(lags, at, batch.traits)
    return -(told.log_prob(batch.values).clamp(min=-30) * batch.weights).sum() / batch.weights.sum()


@torch.no_grad()
def drawn_paths(model: ForecastLstm, window: Window, paths: int, seed: int = 0) -> Tensor:
    """float64 (K, T): draws of what follows a window, in its own unit, step by step."""
    scaled = window.scaled()
    season = torch.tensor([window.season])
    traits = Traits(season, torch.tensor([scaled.unit]))
    values = scaled.values[None]
    at = torch.arange(values.shape[1])[None]
    state = model.read(lags_of(values, at, at, season), at, traits)
    state = (state[0].repeat(1, paths, 1), state[1].repeat(1, paths, 1))
    traits, season = Traits(season.repeat(paths), traits.unit.repeat(paths)), season.repeat(paths)
    history, draws = values.repeat(paths, 1), torch.Generator().manual_seed(seed)
    for _ in window.later:
        age = torch.full((paths, 1), history.shape[1])
        told, state = model(lags_of(history, age, age, season), age, traits, state)
        first, second = (1 - torch.rand((2, paths, 1), generator=draws)).clamp_min(_SMALLEST)
        history = torch.cat([history, told.draw(first, second)], dim=1)
    return scaled.values_of(history[:, values.shape[1] :])
