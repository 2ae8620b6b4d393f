"""Owns the network: lags and features of a series, an LSTM over them, a Student-t for the next value. No requests."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from services.nn.weights import ModelShape

MODEL_TYPE = "castalia-forecast-lstm"
FEATURES = 13  # of a time
_NAIVE = 5  # forecasts that a mean is a mixture of
_OUT = _NAIVE + 3
_LEAST_FREEDOM = 2.1  # degrees: from 2 on a variance exists

# LSTM states of P paths, both (layers, P, hidden).
State = tuple[Tensor, Tensor]


class ForecastConfig(ModelShape):
    """Content of config.json. `max_season` and `horizon` are in intervals of a series."""

    model_type: Literal["castalia-forecast-lstm"] = MODEL_TYPE
    hidden: int = Field(ge=1)
    layers: int = Field(ge=1)
    min_points: int = Field(ge=2)
    max_points: int = Field(ge=2)
    max_season: int = Field(ge=1)
    horizon: int = Field(ge=1)

    @property
    def reach(self) -> int:
        """How many values back a lag may lie."""
        return reach(self.max_season)


def reach(season: int) -> int:
    """How many values back the lags of a series of this season lie."""
    return max(2 * season, season + 1)


@dataclass(frozen=True, slots=True, eq=False)
class Traits:
    """What tells P paths' series from others, both (P,): how many values a season has (int64), and `unit` (float)."""

    season: Tensor
    unit: Tensor

    def to(self, like: Tensor) -> Traits:
        return Traits(self.season.to(like.device), self.unit.to(like))


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """A Student-t distribution of each value: mean, scale and degrees of freedom, of equal shapes."""

    mean: Tensor
    scale: Tensor
    freedom: Tensor

    def log_prob(self, values: Tensor) -> Tensor:
        return torch.distributions.StudentT(self.freedom, self.mean, self.scale, validate_args=False).log_prob(values)

    def draw(self, first: Tensor, second: Tensor) -> Tensor:
        """A draw of each from two uniform variables in (0, 1] (Bailey 1994, doi:10.2307/2153537, theorem 1).

        It takes two for any degrees of freedom, and is continuous in these: rounding cannot make another draw of it.
        """
        radius = (self.freedom * (first ** (-2 / self.freedom) - 1)).clamp_min(0).sqrt()
        return self.mean + self.scale * radius * torch.cos(2 * math.pi * second)


class ForecastLstm(nn.Module):
    """An LSTM that is given lags and features of a series, and gives the distribution of its next value.

    DeepAR (Salinas 2017, arXiv:1704.04110), with a Student-t, and with a mean that mixes naive forecasts (the last
    value, the one a season ago, both with the season's change, the mean of two seasons, the level) and a correction.
    """

    def __init__(self, config: ForecastConfig) -> None:
        super().__init__()
        self.config = config
        self.lstm = nn.LSTM(FEATURES, config.hidden, config.layers, batch_first=True)
        self.head = nn.Linear(config.hidden, _OUT)

    def forward(self, lags: Tensor, age: Tensor, traits: Traits, state: State | None = None) -> tuple[Told, State]:
        """lags (P, T, 5) of `lags_of`, age (P, T) int64 -> what is told of each value (P, T), and the states after.

        Without a state the paths have seen nothing.
        """
        hidden, after = self.lstm(_features(lags, age, traits), state)
        return self.told(hidden, lags, traits), after

    def read(self, lags: Tensor, age: Tensor, traits: Traits, state: State | None = None) -> State:
        """The states after values that are known: as `forward`, without what it tells."""
        return self.lstm(_features(lags, age, traits), state)[1]

    def told(self, hidden: Tensor, lags: Tensor, traits: Traits) -> Told:
        mixture, rest = self.head(hidden).split([_NAIVE, _OUT - _NAIVE], dim=-1)
        shift, spread, freedom = rest.unbind(-1)
        unit = traits.unit[:, None]
        mean = (mixture.softmax(-1) * _naive(lags)).sum(-1) + unit * shift
        scale = unit * (4 * torch.tanh(spread / 4)).exp()
        return Told(mean, scale, _LEAST_FREEDOM + nn.functional.softplus(freedom + 3))


def lags_of(values: Tensor, at: Tensor, age: Tensor, season: Tensor) -> Tensor:
    """(P, T, 5): the values 1, a season, a season and one, two seasons, and a season less one before each time.

    values (P, N); at (P, T) int64: the columns of `values` that are told, N being the next one; age (P, T): how many
    values there were before; season (P,). Where a series does not reach back so far, it is the value before, or 0.
    """
    one = torch.ones_like(season)
    back = torch.stack([one, season, season + 1, 2 * season, (season - 1).clamp_min(1)], dim=-1)  # (P, 5)
    known = back[:, None] <= age[..., None]  # (P, T, 5)
    steps = torch.where(known, back[:, None], 1)
    places = (at[..., None] - steps).clamp_min(0)
    found = values.gather(1, places.flatten(1)).view(places.shape)
    return torch.where(age[..., None] > 0, found, torch.zeros_like(found))


def _naive(lags: Tensor) -> Tensor:
    """(P, T, 5): forecasts that need no network."""
    last, season, season_and_one, two_seasons, _ = lags.unbind(-1)
    changed = last + season - season_and_one
    return torch.stack([last, season, changed, (season + two_seasons) / 2, torch.zeros_like(last)], dim=-1)


def _features(lags: Tensor, age: Tensor, traits: Traits) -> Tensor:
    """(P, T, 13). The place in the season counts from the first value: it is a clock, whose zero means nothing."""
    season = traits.season[:, None]
    angle = (2 * math.pi) * (age % season).to(lags) / season.to(lags)
    last, unit = lags[..., 0], traits.unit[:, None]
    more = [
        # How far the last value is from the one a season before it, in what is usual: a surprise.
        torch.tanh((last - lags[..., 2]) / (4 * unit)),
        angle.sin(),
        angle.cos(),
        (age >= season).to(lags),
        (age >= 2 * season).to(lags),
        torch.log1p(age.to(lags)) / 6,
        (season.to(lags).log() / 5).expand_as(last),
        (unit.log() / 3).expand_as(last),
    ]
    squashed = torch.asinh(lags)  # (P, T, 5): a value far from all before it must not blind the cells
    return torch.cat([squashed, torch.stack(more, dim=-1)], dim=-1)
