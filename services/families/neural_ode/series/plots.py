"""Owns pictures of a latent ODE's windows. Measures nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from services.families.neural_ode.series.data import Window
from services.families.neural_ode.series.forecasting import Batch, decoded_paths
from services.families.neural_ode.series.model import LatentOde
from services.training.series_sheets import Panel, series_sheet

_PATHS = 200


@torch.no_grad()
def forecast_sheet(model: LatentOde, windows: Sequence[Window], labels: Sequence[str]) -> Image.Image:
    return series_sheet([_panel(model, window, label) for window, label in zip(windows, labels, strict=True)])


def _panel(model: LatentOde, window: Window, label: str) -> Panel:
    draws = torch.Generator().manual_seed(0)
    means, spreads = decoded_paths(model, Batch.of([window]), _PATHS, draws)
    drawn = window.scaled().values_of((means + spreads * torch.randn(means.shape, generator=draws))[0])  # (K, T)
    return Panel(label, window.times, window.values, window.later_times, window.later_values, drawn)
