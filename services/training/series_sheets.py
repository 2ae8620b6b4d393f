"""Owns pictures of forecasts: what was observed, what was told, what came. Measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw
from torch import Tensor

_WIDTH, _HEIGHT, _MARGIN = 360, 150, 10
_BAND, _MIDDLE, _OBSERVED, _CAME = "#b9d3ee", "#1f5fa8", "#404040", "#d1495b"


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One forecast: times and values observed (N,), those that came (T,), and draws of them (K, T); float64."""

    label: str
    times: Tensor
    values: Tensor
    later_times: Tensor
    later_values: Tensor
    drawn: Tensor


def series_sheet(panels: Sequence[Panel]) -> Image.Image:
    """Two a row: points observed (grey) and come (red), the median and the band from 10 % to 90 % (blue)."""
    rows = -(-len(panels) // 2)
    sheet = Image.new("RGB", (2 * _WIDTH, rows * _HEIGHT), "white")
    for i, panel in enumerate(panels):
        sheet.paste(_drawn(panel), (i % 2 * _WIDTH, i // 2 * _HEIGHT))
    return sheet


def _drawn(panel: Panel) -> Image.Image:
    low, middle, high = torch.quantile(panel.drawn, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64), dim=0)
    image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    pen = ImageDraw.Draw(image)
    later = panel.later_times
    times = torch.cat([panel.times, later])
    values = torch.cat([panel.values, panel.later_values, low, high])

    def points(at: Tensor, of: Tensor) -> list[tuple[float, float]]:
        x = _MARGIN + (at - times.min()) / (times.max() - times.min()) * (_WIDTH - 2 * _MARGIN)
        y = _HEIGHT - _MARGIN - (of - values.min()) / (values.max() - values.min()) * (_HEIGHT - 3 * _MARGIN)
        return list(zip(x.tolist(), y.tolist(), strict=True))

    pen.polygon([*points(later, low), *reversed(points(later, high))], fill=_BAND)
    pen.line(points(later, middle), fill=_MIDDLE, width=2)
    for colour, at, of in ((_OBSERVED, panel.times, panel.values), (_CAME, later, panel.later_values)):
        for x, y in points(at, of):
            pen.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=colour)
    pen.text((_MARGIN, 0), panel.label, fill="black")
    return image
