"""Owns the training of a flow of records by maximum likelihood, and the picture to look at on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from PIL import Image
from torch import Tensor, nn

from services.families.flow.record_bulk import draw_records, score_records
from services.families.flow.record_model import RecordFlow, RecordFlowConfig
from services.training.recipe import Phase
from services.training.record_data import RecordSplit
from services.training.record_sheets import correlation_sheet


class RecordTraining:
    """Implements `services.training.recipe.Training`: the loss is nats a record, exact."""

    averaged: Sequence[str] = ("flow",)

    def __init__(self, config: RecordFlowConfig, split: RecordSplit, seed: int, phase: Phase) -> None:
        with torch.random.fork_rng(devices=[]):  # modules draw their first weights from torch's own generator
            torch.manual_seed(seed)
            self._flow = RecordFlow(config)
        self._split = split
        self._cells = self._flow.grid.indices(split.train)
        self.phases: Sequence[Phase] = (phase,)

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"flow": self._flow}

    @property
    def examples(self) -> int:
        return len(self._cells)

    def batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Middles, lower and upper edges of records' cells, each (B, F)."""
        cells, grid = self._cells[indices], self._flow.grid
        return (grid.centres(cells), *grid.bounds(cells))

    def loss(
        self,
        phase: str,
        modules: Mapping[str, nn.Module],
        batch: tuple[Tensor, Tensor, Tensor],
        generator: torch.Generator,
    ) -> tuple[Tensor, Mapping[str, float]]:
        return -modules["flow"](*batch).sum(dim=1).mean(), {}

    def validate(self, modules: Mapping[str, nn.Module]) -> Mapping[str, float]:
        """Nats of held-out records and of training ones, negated."""
        flow = cast(RecordFlow, modules["flow"])
        held_out, train = (
            -score_records(flow, part).mean().item() for part in (self._split.held_out, self._split.train)
        )
        return {"metric": held_out, "training": train}

    def sample(self, modules: Mapping[str, nn.Module]) -> Image.Image:
        split, flow = self._split, cast(RecordFlow, modules["flow"])
        return correlation_sheet(split.table, split.train, draw_records(flow, len(split.train)))
