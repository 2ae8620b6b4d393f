"""Owns the training of an autoencoder of records: its loss, its validation, the sheet to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from PIL import Image
from torch import Tensor, nn

from services.families.vae.bounds import log_classes
from services.families.vae.record_bulk import draw_records
from services.families.vae.record_model import RecordVae, RecordVaeConfig
from services.training.recipe import Phase
from services.training.record_data import RecordSplit
from services.training.record_sheets import correlation_sheet

_PHASES = (Phase("bound", ("vae",), learning_rate=2e-3),)


class RecordTraining:
    """Implements `services.training.recipe.Training`: the ELBO of records is to rise, by one draw each."""

    averaged: Sequence[str] = ("vae",)
    phases: Sequence[Phase] = _PHASES

    def __init__(self, config: RecordVaeConfig, split: RecordSplit, seed: int, *, free_nats: float) -> None:
        with torch.random.fork_rng(devices=[]):  # modules draw their first weights from torch's own generator
            torch.manual_seed(seed)
            self._vae = RecordVae(config)
        self._split, self._free_nats = split, free_nats
        self._train, self._held_out = (self._vae.packed(each) for each in (split.train, split.held_out))

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"vae": self._vae}

    @property
    def examples(self) -> int:
        return len(self._train)

    def batch(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Records as `RecordVae.packed` has them, (B, 3 D + K)."""
        return self._train[indices]

    def loss(
        self, phase: str, modules: Mapping[str, nn.Module], batch: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        """-ELBO in nats a record, save that the divergence costs nothing up to `free_nats`.

        Else a decoder that knows nothing of a latent yet, and a latent that costs, would never come to each other (free
        bits, Kingma 2016, arXiv:1606.04934). The prior is a mixture, so that the divergence has no closed form.
        """
        likelihood, divergence = _terms(cast(RecordVae, modules["vae"]), batch, generator)
        return divergence.clamp(min=self._free_nats) - likelihood, {"rate": divergence.item()}

    def validate(self, modules: Mapping[str, nn.Module]) -> Mapping[str, float]:
        """-ELBO in nats of held-out records and of training ones, by one draw each."""
        vae = cast(RecordVae, modules["vae"])
        terms = [_terms(vae, part, torch.Generator().manual_seed(0)) for part in (self._held_out, self._train)]
        held_out, train = ((divergence - likelihood).item() for likelihood, divergence in terms)
        return {"metric": held_out, "training": train}

    def sample(self, modules: Mapping[str, nn.Module]) -> Image.Image:
        split, vae = self._split, cast(RecordVae, modules["vae"])
        return correlation_sheet(split.table, split.train, draw_records(vae, len(split.train)))


def _terms(vae: RecordVae, data: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Means over records, in nats: log p(x|z), and log q(z|x) - log p(z)."""
    noise = torch.randn(len(data), vae.config.latent_size, generator=generator).to(data.device)
    classes = log_classes([None] * len(data), 1).to(data.device)
    posterior = vae.encode(data)
    latent = posterior.draw(noise)
    divergence = posterior.log_density(latent) - vae.log_prior(latent, classes)
    return vae.log_likelihood(data, latent).mean(), divergence.mean()
