"""Owns records in bulk, drawn and scored, for measuring. Serving goes through the passes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from services.families.vae.bounds import BOUNDS, log_classes, log_weights
from services.families.vae.record_model import RecordVae, RecordVaeConfig
from services.families.vae.record_passes import Draws, draw_entries
from services.nn.records import Entries
from services.nn.weights import load_model
from shared.config.vae import SAMPLES
from shared.schemas.scores import Metric

SEED = 20240601  # of what evaluations draw
_ROWS = 250  # at a time


def load_record_vae(folder: Path) -> RecordVae:
    """In float32 on the CPU, as evaluations need it whatever serves it."""
    return load_model(RecordVae, RecordVaeConfig, folder, dtype=torch.float32, device=torch.device("cpu"))


@torch.inference_mode()
def draw_records(vae: RecordVae, count: int) -> Entries:
    """The same each time, all from one generator."""
    draws = torch.Generator().manual_seed(SEED)
    return draw_entries(vae, Draws.of(vae, [draws] * count), torch.ones(count))[0]


@torch.inference_mode()
def score_records(vae: RecordVae, entries: Entries, metric: Metric = "elbo") -> Tensor:
    """float64 (N,) in nats, each record from as many draws as a request gets."""
    draws = torch.Generator().manual_seed(SEED)
    found: list[float] = []
    for data in vae.packed(entries).split(_ROWS):
        noise = torch.randn(len(data), SAMPLES[metric], vae.config.latent_size, generator=draws)
        classes = log_classes([None] * len(data), 1)
        found += [BOUNDS[metric](each).value for each in log_weights(vae, data, classes, list(noise))]
    return torch.tensor(found, dtype=torch.float64)
