"""Owns the picture of a card of records: how columns hang together, in truth and as drawn. Measures nothing."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from services.nn.records import Entries, Table
from services.training.sheets import grid

_CELL = 4  # pixels a pair of features, before the sheet's own scale


def correlation_sheet(table: Table, train: Entries, drawn: Entries) -> Image.Image:
    """Correlations of features (numbers, then categories), -1 black and 1 white: training records left, drawn right."""
    pictures = torch.stack([_correlations(table, each) for each in (train, drawn)])[:, None]
    return grid(pictures.repeat_interleave(_CELL, 2).repeat_interleave(_CELL, 3), 2, [""])


def _correlations(table: Table, entries: Entries) -> Tensor:
    """float32 (W, W) in [-1, 1]; 0 of a feature that never changes."""
    return torch.corrcoef(table.features(entries).T).nan_to_num(0.0)
