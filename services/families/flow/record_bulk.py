"""Owns records in bulk, drawn and scored, for measuring. Serving goes through the passes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from services.families.flow.record_model import RecordFlow, RecordFlowConfig
from services.families.flow.record_sampler import RecordPass
from services.nn.records import Entries
from services.nn.weights import load_model

_ROWS = 500  # at a time
SEED = 20240601  # of the latents that evaluations and sheets draw


def load_record_flow(folder: Path) -> RecordFlow:
    """In float32 on the CPU, as evaluations need it whatever serves it."""
    return load_model(RecordFlow, RecordFlowConfig, folder, dtype=torch.float32, device=torch.device("cpu"))


@torch.inference_mode()
def draw_records(flow: RecordFlow, count: int, *, temperature: float = 1.0) -> Entries:
    """The same each time."""
    z = torch.randn(count, len(flow.grid.sizes), generator=torch.Generator().manual_seed(SEED)) * temperature
    return RecordPass(flow).draw(z)


@torch.inference_mode()
def score_records(flow: RecordFlow, entries: Entries) -> Tensor:
    """Nats float64 (N,) of whole records."""
    run = RecordPass(flow)
    parts = [entries.subset(slice(start, start + _ROWS)) for start in range(0, len(entries), _ROWS)]
    return torch.cat([run.log_probabilities(part) for part in parts])
