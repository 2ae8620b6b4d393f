"""Owns pictures of forecasts: what was observed, what was told, what came. Measures nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from services.families.neural_ode.series.data import Window
from services.families.neural_ode.series.forecasting import Batch, decoded_paths
from services.families.neural_ode.series.model import LatentOde

_WIDTH, _HEIGHT, _MARGIN = 360, 150, 10
_BAND, _MIDDLE, _OBSERVED, _CAME = "#b9d3ee", "#1f5fa8", "#404040", "#d1495b"
_PATHS = 200


@torch.no_grad()
def forecast_sheet(model: LatentOde, windows: Sequence[Window], labels: Sequence[str]) -> Image.Image:
    """Two windows a row: points observed (grey) and come (red), the median and the band from 10 % to 90 % (blue)."""
    rows = -(-len(windows) // 2)
    sheet = Image.new("RGB", (2 * _WIDTH, rows * _HEIGHT), "white")
    for i, (window, label) in enumerate(zip(windows, labels, strict=True)):
        sheet.paste(_panel(model, window, label), (i % 2 * _WIDTH, i // 2 * _HEIGHT))
    return sheet


def _panel(model: LatentOde, window: Window, label: str) -> Image.Image:
    draws = torch.Generator().manual_seed(0)
    means, spreads = decoded_paths(model, Batch.of([window]), _PATHS, draws)
    drawn = window.scaled().values_of((means + spreads * torch.randn(means.shape, generator=draws))[0])  # (K, T)
    low, middle, high = torch.quantile(drawn, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64), dim=0)
    image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    pen = ImageDraw.Draw(image)
    times = torch.cat([window.times, window.later_times])
    values = torch.cat([window.values, window.later_values, low, high])

    def points(at: Tensor, of: Tensor) -> list[tuple[float, float]]:
        x = _MARGIN + (at - times.min()) / (times.max() - times.min()) * (_WIDTH - 2 * _MARGIN)
        y = _HEIGHT - _MARGIN - (of - values.min()) / (values.max() - values.min()) * (_HEIGHT - 3 * _MARGIN)
        return list(zip(x.tolist(), y.tolist(), strict=True))

    later = window.later_times
    pen.polygon([*points(later, low), *reversed(points(later, high))], fill=_BAND)
    pen.line(points(later, middle), fill=_MIDDLE, width=2)
    for colour, at, of in ((_OBSERVED, window.times, window.values), (_CAME, later, window.later_values)):
        for x, y in points(at, of):
            pen.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=colour)
    pen.text((_MARGIN, 0), label, fill="black")
    return image
