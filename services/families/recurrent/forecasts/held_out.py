"""Owns the held-out windows that lie beside published weights: what measures them without the training data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from services.families.recurrent.forecasts.data import Window

SAMPLE = "held_out.json"


def write_windows(windows: Sequence[Window], folder: Path) -> None:
    content = [
        {"values": _rounded(each.values), "later": _rounded(each.later), "season": each.season} for each in windows
    ]
    (folder / SAMPLE).write_text(json.dumps(content) + "\n")


def read_windows(folder: Path) -> list[Window]:
    content = json.loads((folder / SAMPLE).read_text())
    return [
        Window(
            torch.tensor(each["values"], dtype=torch.float64),
            torch.tensor(each["later"], dtype=torch.float64),
            each["season"],
        )
        for each in content
    ]


def _rounded(values: torch.Tensor) -> list[float]:
    return [float(f"{value:.7g}") for value in values.tolist()]
