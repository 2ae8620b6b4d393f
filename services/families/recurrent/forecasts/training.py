"""Owns the training of a forecaster: batches of windows, real and made up, its loss, its validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from PIL import Image
from torch import Tensor, nn

from services.families.recurrent.forecasts.augment import made_up, turned
from services.families.recurrent.forecasts.data import UNSEEN, Window, season_of, windows_of
from services.families.recurrent.forecasts.forecasting import Batch, drawn_paths, negative_log_likelihood
from services.families.recurrent.forecasts.model import ForecastConfig, ForecastLstm, Traits
from services.families.recurrent.forecasts.plots import forecast_sheet
from services.training.recipe import Phase
from services.training.series_data import Record
from services.training.series_figures import crps, seasonal_error

LENGTHS = (48, 96, 160, 256)  # of a batch's windows
_LEAST = 16  # values of a window
_MADE_UP = 0.4  # share of a batch
_PLACES = 256  # of each series, in an epoch
_PATHS, _VALIDATED, _SHOWN = 30, 3, 256  # paths, windows of each series, values that they show


class ForecastTraining:
    """Implements `services.training.recipe.Training`. An example is a series; where its window lies is drawn."""

    averaged: Sequence[str] = ("forecaster",)
    phases: Sequence[Phase] = (Phase("likelihood", ("forecaster",), learning_rate=3e-3, weight_decay=0.01),)

    def __init__(self, config: ForecastConfig, records: Sequence[Record], seed: int) -> None:
        with torch.random.fork_rng(devices=[]):  # modules draw their first weights from torch's own generator
            torch.manual_seed(seed)
            self._forecaster = ForecastLstm(config)
        self._records = [record for record in records if record.name not in UNSEEN]
        self._validated = {
            record.name: windows_of(record, "validation", _VALIDATED, _SHOWN) for record in self._records
        }

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"forecaster": self._forecaster}

    @property
    def examples(self) -> int:
        return len(self._records) * _PLACES

    def batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        length = LENGTHS[int(torch.randint(len(LENGTHS), (1,), generator=generator))]
        windows: list[tuple[Tensor, int, int]] = []
        for index in indices.tolist():
            values, season = self._window(index % len(self._records), length, generator)
            # What sets the scale is what a forecast would have seen: the rest is told in its unit.
            told = int(torch.randint(1, max(2, len(values) // 3), (1,), generator=generator))
            windows.append((values, max(_LEAST // 2, len(values) - told), season))
        batch = Batch.of(windows)
        return batch.values, batch.weights, batch.traits.season, batch.traits.unit

    def loss(
        self, phase: str, modules: Mapping[str, nn.Module], batch: tuple[Tensor, ...], generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        values, weights, season, unit = batch
        return negative_log_likelihood(modules["forecaster"], Batch(values, weights, Traits(season, unit))), {}

    def validate(self, modules: Mapping[str, nn.Module]) -> Mapping[str, float]:
        """CRPS of windows of the validation part, in seasonal errors of what was observed; a mean over series."""
        model = cast(ForecastLstm, modules["forecaster"])
        scores = [
            sum(_score(model, window) for window in windows) / len(windows)
            for windows in self._validated.values()
            if windows
        ]
        return {"metric": sum(scores) / len(scores)}

    def sample(self, modules: Mapping[str, nn.Module]) -> Image.Image:
        shown = [(name, windows[0]) for name, windows in self._validated.items() if windows][:12]
        model = cast(ForecastLstm, modules["forecaster"])
        return forecast_sheet(model, [window for _, window in shown], [name for name, _ in shown])

    def _window(self, series: int, length: int, draws: torch.Generator) -> tuple[Tensor, int]:
        if torch.rand(1, generator=draws) < _MADE_UP:
            return made_up(length, draws)
        record = self._records[series]
        values = record.values[: record.part("training").stop]
        length = min(length, len(values))
        start = int(torch.randint(0, len(values) - length + 1, (1,), generator=draws))
        values, season = turned(values[start : start + length], season_of(record), draws)
        return values, season


def _score(model: ForecastLstm, window: Window) -> float:
    drawn = drawn_paths(model, window, _PATHS)
    return crps(drawn[None], window.later[None]).mean().item() / seasonal_error(window.values, window.season)
