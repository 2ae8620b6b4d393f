"""Owns the held-out windows that lie beside published weights: what measures them without the training data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import torch

from services.families.neural_ode.series.data import Window

SAMPLE = "held_out.json"


def write_windows(windows: Sequence[Window], folder: Path) -> None:
    content = [
        {field.name: [round(value, 6) for value in getattr(window, field.name).tolist()] for field in fields(Window)}
        for window in windows
    ]
    (folder / SAMPLE).write_text(json.dumps(content) + "\n")


def read_windows(folder: Path) -> list[Window]:
    content = json.loads((folder / SAMPLE).read_text())
    return [
        Window(**{name: torch.tensor(values, dtype=torch.float64) for name, values in each.items()}) for each in content
    ]
