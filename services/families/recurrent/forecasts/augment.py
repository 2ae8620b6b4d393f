"""Owns what makes few series many: windows turned into others, and windows that a formula made up. No network."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_SEASONS = (1, 1, 4, 7, 12, 12, 24, 48, 52)  # of made-up series; half of them take another one at random
_LONGEST = 60
_SUPPOSED = (4, 7, 12)  # what a client's calendar may say of a series without a season
_HARMONICS = 4


def _uniform(low: float, high: float, draws: torch.Generator) -> float:
    return low + (high - low) * torch.rand(1, generator=draws).item()


def made_up(length: int, draws: torch.Generator) -> tuple[Tensor, int]:
    """A season of sines, a trend and noise, float64 (length,), and how many values the season has.

    The season may grow with the level; noise is of an autoregression of order one, or a random walk.
    """
    season = _SEASONS[int(torch.randint(len(_SEASONS), (1,), generator=draws))]
    if season > 1 and _uniform(0, 1, draws) < 0.5:
        season = int(torch.randint(3, _LONGEST, (1,), generator=draws))
    at = torch.arange(length, dtype=torch.float64)
    wave = _wave(at, season, draws) if season > 1 else torch.zeros_like(at)
    slope = _uniform(-1, 1, draws) ** 3 * 6 / length
    trend = slope * at
    if _uniform(0, 1, draws) < 0.3:  # it changes its way once
        bend = _uniform(0.2, 0.9, draws) * length
        trend = trend + _uniform(-6, 6, draws) / length * (at - bend).clamp_min(0)
    noise = _noise(length, draws) * 10 ** _uniform(-2.3, 0.2, draws)
    if _uniform(0, 1, draws) < 0.3:
        return torch.exp(0.5 * trend) * (2 + wave) + noise, season
    return wave * _uniform(0.2, 1.5, draws) + trend + noise, season


def _wave(at: Tensor, season: int, draws: torch.Generator) -> Tensor:
    """Of a few harmonics; of an amplitude that drifts."""
    orders = torch.arange(1, 1 + min(_HARMONICS, season // 2), dtype=torch.float64)
    strengths = torch.randn(len(orders), generator=draws).double() / orders
    phases = 2 * math.pi * torch.rand(len(orders), generator=draws).double()
    waves = torch.sin(2 * math.pi * orders[:, None] * at / season + phases[:, None])
    wave = (strengths[:, None] * waves).sum(0)
    return wave * (1 + _uniform(-0.5, 0.8, draws) * at / len(at))


def _noise(length: int, draws: torch.Generator) -> Tensor:
    shocks = torch.randn(length, generator=draws).double()
    if _uniform(0, 1, draws) < 0.25:  # rare shocks that are large
        shocks = shocks * (1 + 4 * (torch.rand(length, generator=draws) < 0.03))
    kind = _uniform(0, 1, draws)
    if kind < 0.3:
        return shocks.cumsum(0)
    carry = _uniform(0, 0.95, draws) if kind < 0.7 else 0.0
    weights = carry ** torch.arange(min(length, 80)).double()
    padded = torch.nn.functional.pad(shocks, (len(weights) - 1, 0))
    return torch.nn.functional.conv1d(padded[None, None], weights.flip(0)[None, None])[0, 0]


def turned(values: Tensor, season: int, draws: torch.Generator) -> tuple[Tensor, int]:
    """A window as it could have been: upside down, stretched in time with its season, with noise or a trend.

    One without a season may be said to have one."""
    if _uniform(0, 1, draws) < 0.3:
        values = -values
    if season > 1 and _uniform(0, 1, draws) < 0.3:
        values, season = _stretched(values, season, draws)
    if season == 1 and _uniform(0, 1, draws) < 0.4:
        season = _SUPPOSED[int(torch.randint(len(_SUPPOSED), (1,), generator=draws))]
    deviation = values.std().clamp_min(1e-9)
    if _uniform(0, 1, draws) < 0.3:
        values = values + torch.randn(len(values), generator=draws) * deviation * _uniform(0, 0.15, draws)
    if _uniform(0, 1, draws) < 0.3:
        values = values + deviation * _uniform(-2, 2, draws) * torch.linspace(0, 1, len(values))
    return values, season


def _stretched(values: Tensor, season: int, draws: torch.Generator) -> tuple[Tensor, int]:
    """Of as many values, of which another number is a season: linear between those that there were."""
    wanted = max(3, round(season * _uniform(0.7, 1.0, draws)))
    at = torch.arange(len(values)) * (season / wanted)
    at = at[at <= len(values) - 1]
    low = at.floor().long().clamp_max(len(values) - 2)
    part = (at - low).to(values)
    return values[low] * (1 - part) + values[low + 1] * part, wanted
