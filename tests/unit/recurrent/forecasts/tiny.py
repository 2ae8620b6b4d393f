"""A tiny forecaster with random weights, as a folder that the family loads, and series to train one on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from services.families.recurrent.forecasts.model import ForecastConfig, ForecastLstm
from services.families.recurrent.forecasts.params import ForecastParams
from services.families.recurrent.forecasts.scaling import scale_series
from services.nn.weights import save_model
from services.training.series_data import Record, regular
from shared.config.recurrent import RecurrentForecastModel

CONFIG = ForecastConfig(hidden=8, layers=2, min_points=6, max_points=300, max_season=40, horizon=60)


def make_forecaster(config: ForecastConfig = CONFIG) -> ForecastLstm:
    """Random weights, of a spread that makes lags, features and states matter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ForecastLstm(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval().requires_grad_(False)


def make_forecast_folder(folder: Path) -> Path:
    save_model(make_forecaster(), CONFIG, folder)
    return folder


def forecast_config(folder: Path, **options: Any) -> RecurrentForecastModel:
    fields = {"id": "tiny", "kind": "forecast", "source": f"file://{folder}", **options}
    return RecurrentForecastModel.model_validate(fields)


def wave(count: int, season: int = 12) -> list[float]:
    """A season about a rising line."""
    return [50 + 0.1 * i + 10 * math.sin(2 * math.pi * i / season) for i in range(count)]


def params_of(
    values: Sequence[float], *, season: int = 12, steps: Sequence[int] = (1, 2, 3), samples: int = 20, seed: int = 1
) -> ForecastParams:
    scaled, times = scale_series(values, season), tuple(float(len(values) + step - 1) for step in steps)
    return ForecastParams(scaled, tuple(steps), times, (0.1, 0.5, 0.9), samples, seed)


def make_records() -> list[Record]:
    """Two waves of other seasons and lengths with noise, and one whose name says that it is not trained on."""
    draws = torch.Generator().manual_seed(0)
    shapes = (("waves", 200, 12), ("tides", 260, 20), ("airline", 150, 12))
    return [
        regular(name, torch.tensor(wave(count, season)) + torch.randn(count, generator=draws), float(season))
        for name, count, season in shapes
    ]
