"""Owns the passes of a record flow: drawn, scored and embedded records. Each answers a batch of rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from services.families.flow.record_model import RecordFlow
from services.nn.record_tasks import (
    DrawnRecord,
    RecordParams,
    RecordVector,
    ScoredRecord,
    drawn,
    entries_of,
)
from services.nn.records import Entries
from services.nn.rng import row_generator


class RecordPass:
    """What all passes of a record flow have: the flow, in its own dtype and on its device."""

    def __init__(self, flow: RecordFlow) -> None:
        self.flow = flow

    def log_probabilities(self, entries: Entries) -> Tensor:
        """Nats float64 (N,) of whole records, on the CPU."""
        weight = next(self.flow.parameters())
        cells = self.flow.grid.indices(entries)
        low, high = self.flow.grid.bounds(cells)
        columns = self.flow(self.flow.grid.centres(cells).to(weight), low.to(weight), high.to(weight))
        return columns.double().sum(dim=1).cpu()

    def draw(self, z: Tensor) -> Entries:
        """The records of latents (N, F)."""
        return self.flow.grid.entries(self.flow.inverse(z.to(next(self.flow.parameters()))))


class DrawRecords(RecordPass):
    """Implements `services.nn.one_shot.Pass`. A row draws its latent by its own seed."""

    def __call__(self, rows: Sequence[RecordParams]) -> list[DrawnRecord | None]:
        size = len(self.flow.grid.sizes)
        latents = [torch.randn(size, generator=row_generator(row.seed)) * row.temperature for row in rows]
        return drawn(self.flow.config.table, rows, self.draw(torch.stack(latents)), [True] * len(rows))


class ScoreRecords(RecordPass):
    """Implements `services.nn.one_shot.Pass`: exact log-probabilities."""

    def __call__(self, rows: Sequence[RecordParams]) -> list[ScoredRecord | None]:
        values = self.log_probabilities(entries_of(rows))
        return [
            ScoredRecord(row.metric, value) if finite else None
            for row, value, finite in zip(rows, values.tolist(), values.isfinite().tolist(), strict=True)
        ]


class EmbedRecords(RecordPass):
    """Implements `services.nn.one_shot.Pass`: latents, a number a column."""

    def __call__(self, rows: Sequence[RecordParams]) -> list[RecordVector | None]:
        grid = self.flow.grid
        middles = grid.centres(grid.indices(entries_of(rows))).to(next(self.flow.parameters()))
        latents = self.flow.latent(middles).float().cpu()
        return [
            RecordVector(tuple(latent[: row.dimensions].tolist()), row.encoding) if latent.isfinite().all() else None
            for row, latent in zip(rows, latents, strict=True)
        ]
