"""Owns the learning of grids: a network, the cross-entropy of every cell, held-out bits. Knows no data set by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from services.families.pixelcnn.likelihood import bits_of, log_likelihoods
from services.families.pixelcnn.model import GatedPixelCnn, PixelCnnConfig
from services.nn.weights import use_channels_last
from services.training.recipe import Phase

Grids = tuple[Tensor, Tensor]  # values int64 (B, H, W), labels int64 (B,)


class Source(Protocol):
    """Where grids come from."""

    @property
    def examples(self) -> int: ...

    def batch(self, indices: Tensor, generator: torch.Generator) -> Grids:
        """The training examples at `indices` (B,), varied by draws of the generator alone."""
        ...

    def held_out(self) -> Grids:
        """Grids that no batch has, as many as a validation is to take; the same each time."""
        ...


@dataclass(frozen=True, slots=True)
class Course:
    """How a network is trained, besides the schedule."""

    learning_rate: float
    dropout: float
    weight_decay: float


class GridTraining:
    """Implements `services.training.recipe.Training`: maximum likelihood, a cell's mean."""

    averaged: Sequence[str] = ("model",)

    def __init__(
        self,
        config: PixelCnnConfig,
        course: Course,
        source: Source,
        sheet: Callable[[GatedPixelCnn], Image.Image],
        seed: int,
    ) -> None:
        with torch.random.fork_rng(devices=[]):  # modules draw their first weights from torch's own generator
            torch.manual_seed(seed)
            self._model = GatedPixelCnn(config, course.dropout)
        use_channels_last(self._model)
        self._source, self._sheet = source, sheet
        self.phases: Sequence[Phase] = (
            Phase("likelihood", ("model",), learning_rate=course.learning_rate, weight_decay=course.weight_decay),
        )

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"model": self._model}

    @property
    def examples(self) -> int:
        return self._source.examples

    def batch(self, indices: Tensor, generator: torch.Generator) -> Grids:
        return self._source.batch(indices, generator)

    def loss(
        self, phase: str, modules: Mapping[str, nn.Module], batch: Grids, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        """In nats a cell."""
        values, labels = batch
        logits: Tensor = modules["model"](values, labels)
        loss = functional.cross_entropy(logits.float(), values)
        return loss, {"bits_per_dimension": loss.item() / math.log(2)}

    def validate(self, modules: Mapping[str, nn.Module]) -> Mapping[str, float]:
        """Bits that a cell of held-out grids takes, given their classes."""
        values, labels = self._source.held_out()
        nats = log_likelihoods(cast(GatedPixelCnn, modules["model"]), values, labels)
        return {"metric": bits_of(nats.mean().item(), values[0].numel())}

    def sample(self, modules: Mapping[str, nn.Module]) -> Image.Image:
        return self._sheet(cast(GatedPixelCnn, modules["model"]))
