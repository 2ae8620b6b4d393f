"""Owns pictures of a forecaster's windows. Measures nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from services.families.recurrent.forecasts.data import Window
from services.families.recurrent.forecasts.forecasting import drawn_paths
from services.families.recurrent.forecasts.model import ForecastLstm
from services.training.series_sheets import Panel, series_sheet

_PATHS = 200
_SHOWN = 4  # forecasts' lengths of what was observed


def forecast_sheet(model: ForecastLstm, windows: Sequence[Window], labels: Sequence[str]) -> Image.Image:
    return series_sheet([_panel(model, window, label) for window, label in zip(windows, labels, strict=True)])


def _panel(model: ForecastLstm, window: Window, label: str) -> Panel:
    observed = window.values[-_SHOWN * len(window.later) :]
    times = torch.arange(-len(observed), len(window.later)).double()
    before, later = times.split([len(observed), len(window.later)])
    return Panel(label, before, observed, later, window.later, drawn_paths(model, window, _PATHS))
