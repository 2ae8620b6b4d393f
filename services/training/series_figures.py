"""Owns what forecasts are measured by: CRPS of draws and of Gaussians, coverage, and seasonal-naive baselines."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def crps(draws: Tensor, values: Tensor) -> Tensor:
    """Continuous ranked probability score E|X - x| - E|X - X'| / 2 (Gneiting & Raftery 2007), of sorted draws.

    draws (B, K, T), values (B, T) -> (B, T), in their unit; of a single draw it is the absolute error.
    """
    count = draws.shape[1]
    ordered = draws.sort(dim=1).values
    ranks = 2 * torch.arange(count, dtype=draws.dtype) - count + 1  # sum of |X - X'| over pairs, by rank
    spread = (ordered * ranks[None, :, None]).sum(1) / count**2
    return (draws - values[:, None]).abs().mean(1) - spread


def gaussian_crps(mean: Tensor, deviation: Tensor, values: Tensor) -> Tensor:
    """The same of N(mean, deviation^2), in closed form (Gneiting 2005, eq. 5); all of one shape."""
    z = (values - mean) / deviation
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    below = torch.special.ndtr(z)
    return deviation * (z * (2 * below - 1) + 2 * density - 1 / math.sqrt(math.pi))


def seasonal_naive(values: Tensor, season: int, ahead: int) -> Tensor:
    """(ahead,): the last season of `values` (N,) over and over; the last value where a season is 1."""
    return values[-season:].repeat(-(-ahead // season))[:ahead]


def seasonal_naive_deviation(values: Tensor, season: int, ahead: int) -> Tensor:
    """(ahead,): the deviation of a seasonal-naive forecast's errors, if these are independent and Gaussian.

    sigma sqrt(k) in the k-th season ahead, sigma of the changes from season to season in `values` (Hyndman &
    Athanasopoulos 2021, Forecasting: Principles and Practice, section 5.5).
    """
    changes = values[season:] - values[:-season]
    seasons = torch.arange(ahead) // season + 1
    return changes.square().mean().sqrt().clamp_min(1e-9) * seasons.to(values).sqrt()


def seasonal_error(values: Tensor, season: int) -> float:
    """The mean absolute change from season to season: what MASE divides by (Hyndman & Koehler 2006)."""
    return (values[season:] - values[:-season]).abs().mean().clamp_min(1e-9).item()
