"""Owns the training of a latent ODE: batches of windows, its loss, its validation. Knows no series by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from PIL import Image
from torch import Tensor, nn

from services.families.neural_ode.series.data import Window, draw_window, lasts_of
from services.families.neural_ode.series.forecasting import Batch, decoded_paths, negative_log_likelihood
from services.families.neural_ode.series.model import LatentOde, SeriesConfig
from services.families.neural_ode.series.plots import forecast_sheet
from services.training.recipe import Phase
from services.training.series_data import Part, Record
from services.training.series_figures import crps

_PATHS = 4  # of a window, in the loss
_TARGETS = 24  # of a window, of what follows it
_WIDEST = 2.5  # mean intervals between targets: a training's solver goes over it in two steps
_VALIDATED = 32  # windows of each series
_JITTER = 0.03  # noise on observations, in deviations: the series are short, and would be learnt by heart


class LatentOdeTraining:
    """Implements `services.training.recipe.Training`. An example is a place where a window ends."""

    averaged: Sequence[str] = ("ode",)
    phases: Sequence[Phase] = (Phase("forecast", ("ode",), learning_rate=3e-3, weight_decay=0.02),)

    def __init__(self, config: SeriesConfig, records: Sequence[Record], seed: int) -> None:
        with torch.random.fork_rng(devices=[]):  # modules draw their first weights from torch's own generator
            torch.manual_seed(seed)
            self._ode = LatentOde(config)
        self._config, self._records = config, records
        # Short series come as often as long ones.
        most = max(len(lasts_of(record, "training")) for record in records)
        self._places = [
            (record, lasts[i % len(lasts)])
            for record in records
            for lasts in [lasts_of(record, "training")]
            for i in range(most)
        ]
        self._validated = Batch.of(self._windows("validation"))

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"ode": self._ode}

    @property
    def examples(self) -> int:
        return len(self._places)

    def batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        windows: list[Window] = []
        for index in indices.tolist():
            record, last = self._places[index]
            window = draw_window(record, last, "training", self._config.horizon, generator)
            windows.append(_thinned(window, generator))
        batch = Batch.of(windows)
        noise = torch.randn(batch.observations.shape[:2], generator=generator) * _JITTER
        batch.observations[..., 0] += noise
        return batch.observations, batch.lengths, batch.times, batch.values, batch.weights

    def loss(
        self, phase: str, modules: Mapping[str, nn.Module], batch: tuple[Tensor, ...], generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        windows = Batch(*batch)
        means, spreads = decoded_paths(modules["ode"], windows, _PATHS, generator)
        return negative_log_likelihood(means, spreads, windows), {}

    def validate(self, modules: Mapping[str, nn.Module]) -> Mapping[str, float]:
        """CRPS of windows of the validation part, in deviations of what was observed."""
        draws = torch.Generator().manual_seed(0)
        means, spreads = decoded_paths(modules["ode"], self._validated, 32, draws)
        drawn = means + spreads * torch.randn(means.shape, generator=draws)
        score = crps(drawn, self._validated.values) * self._validated.weights
        return {"metric": (score.sum() / self._validated.weights.sum()).item()}

    def sample(self, modules: Mapping[str, nn.Module]) -> Image.Image:
        windows = self._windows("validation")[:: _VALIDATED // 2]
        return forecast_sheet(cast(LatentOde, modules["ode"]), windows, [""] * len(windows))

    def _windows(self, part: Part) -> list[Window]:
        draws = torch.Generator().manual_seed(1)
        return [
            draw_window(record, lasts[i * len(lasts) // _VALIDATED], part, self._config.horizon, draws)
            for record in self._records
            for lasts in [lasts_of(record, part)]
            for i in range(_VALIDATED)
        ]


def _thinned(window: Window, draws: torch.Generator) -> Window:
    """At most so many of what follows: all near ones or every second, up to the first gap that is too wide."""
    stride = int(torch.randint(1, 3, (1,), generator=draws))
    times = window.later_times[::stride][:_TARGETS]
    unit = window.scaled()
    gaps = times.diff(prepend=window.times[-1:]) / unit.gap
    wide = (gaps > _WIDEST).nonzero()
    count = max(1, int(wide[0])) if len(wide) else len(times)
    return replace(window, later_times=times[:count], later_values=window.later_values[::stride][:count])
