"""Owns the autoencoder of records. Never sees a request."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from services.families.vae.bounds import ClassPrior, Posterior
from services.families.vae.logistic import FAR, logistic_log_mass, single
from services.nn.records import Entries, Table
from services.nn.weights import ModelShape

MODEL_TYPE = "castalia-record-vae"
_MIN_LOG_SCALE = -7.0


class RecordVaeConfig(ModelShape):
    """Content of config.json. `components` are the Gaussians of the prior."""

    model_type: Literal["castalia-record-vae"] = MODEL_TYPE
    table: Table
    width: int = Field(ge=1)
    latent_size: int = Field(ge=1)
    components: int = Field(ge=1)


class RecordVae(nn.Module):
    """Implements `services.families.vae.bounds.LatentModel` for data (B, 3 D + K) as `packed` makes them.

    Numbers are logistic variables in the space where the table's are standard normal, rounded to the bins of their
    grid; categories have logits. The prior is a mixture, as patients are of kinds.
    """

    def __init__(self, config: RecordVaeConfig) -> None:
        super().__init__()
        self.config = config
        numbers, latent = len(config.table.numbers), config.latent_size
        self.encoder = _layers(config.table.width, config.width, 2 * latent)
        self.decoder = _layers(latent, config.width, numbers + config.table.width)
        self.prior = ClassPrior(1, config.components, latent)

    def packed(self, entries: Entries) -> Tensor:
        """float32 (N, 3 D + K): the features, and the edges of the numbers' bins, below and above."""
        low, high = bin_edges(self.config.table, entries)
        return torch.cat([self.config.table.features(entries), low.float(), high.float()], dim=1)

    def encode(self, data: Tensor) -> Posterior:
        mean, log_std = self.encoder(data[:, : self.config.table.width].to(self._dtype)).chunk(2, dim=1)
        return Posterior(single(mean), single(log_std))

    def decode(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Places (B, D), logarithms of scales (B, D) and logits (B, K) of latents (B, Z)."""
        numbers = len(self.config.table.numbers)
        out = single(self.decoder(latent.to(self._dtype)))
        place, log_scale, logits = out.split([numbers, numbers, out.shape[1] - 2 * numbers], dim=1)
        return place, log_scale.clamp(min=_MIN_LOG_SCALE), logits

    def log_likelihood(self, data: Tensor, latent: Tensor) -> Tensor:
        table = self.config.table
        place, log_scale, logits = self.decode(latent)
        numbers = place.shape[1]
        chosen, low, high = data[:, numbers:].split([table.width - numbers, numbers, numbers], dim=1)
        total = logistic_log_mass(low, high, place, log_scale).sum(1)
        for mine, block in zip(table.blocks(chosen), table.blocks(logits), strict=True):
            total = total + (functional.log_softmax(block, dim=1) * mine).sum(1)
        return total

    def log_prior(self, latent: Tensor, log_classes: Tensor) -> Tensor:
        return self.prior.log_density(latent, log_classes)

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


def bin_edges(table: Table, entries: Entries) -> tuple[Tensor, Tensor]:
    """Of the numbers' bins, below and above, float64 (N, D) where numbers are standard normal.

    The first and the last number take the tails: what is drawn beyond them becomes one of them.
    """
    lowest = torch.zeros_like(entries.numbers)
    low, high = (table.to_normal(table.dequantise(entries.numbers, at)) for at in (lowest, lowest + 1))
    ends = torch.tensor([(each.minimum, each.maximum) for each in table.numbers], dtype=torch.float64).view(-1, 2)
    return (
        low.masked_fill(entries.numbers <= ends[:, 0], -FAR),
        high.masked_fill(entries.numbers >= ends[:, 1], FAR),
    )


def _layers(width: int, hidden: int, out_width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, out_width)
    )
