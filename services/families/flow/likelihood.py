"""Owns training by maximum likelihood, with a picture of samples on the way. Knows no data set by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from PIL import Image
from torch import Tensor, nn

from services.families.flow.drawing import bits_per_dimension, dequantised, draw_classes, log_likelihoods
from services.families.flow.model import ImageFlow, ImageFlowConfig, log_normal, one_hot
from services.nn.weights import use_channels_last
from services.training.image_data import Split
from services.training.recipe import Phase
from services.training.sheets import grid


class LikelihoodTraining:
    """Implements `services.training.recipe.Training`: the loss is bits per dimension, given each image's class."""

    averaged: Sequence[str] = ("flow",)

    def __init__(self, config: ImageFlowConfig, split: Split, seed: int, learning_rate: float) -> None:
        with torch.random.fork_rng(devices=[]):  # modules draw their first weights from torch's own generator
            torch.manual_seed(seed)
            self._flow = ImageFlow(config)
        use_channels_last(self._flow)
        self._config, self._split = config, split
        self.phases: Sequence[Phase] = (Phase("likelihood", ("flow",), learning_rate=learning_rate),)

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"flow": self._flow}

    @property
    def examples(self) -> int:
        return len(self._split.train)

    def batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Dequantised values (B, 1, S, S), with fresh noise each time an image is seen, and classes (B,)."""
        pixels = self._split.train.images[indices].float()
        return pixels + torch.rand(pixels.shape, generator=generator), self._split.train.classes[indices]

    def loss(
        self, phase: str, modules: Mapping[str, nn.Module], batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        values, classes = batch
        z, log_det = modules["flow"](values, one_hot(classes, len(self._config.classes)))
        return -(log_normal(z) + log_det).mean() / (z.shape[1] * math.log(2)), {}

    def validate(self, modules: Mapping[str, nn.Module]) -> Mapping[str, float]:
        """Bits per dimension of held-out images, given their classes."""
        flow, held_out = cast(ImageFlow, modules["flow"]), self._split.held_out
        nats = log_likelihoods(flow, dequantised(held_out.images), held_out.classes)
        return {"metric": bits_per_dimension(nats, self._config.dimensions)}

    def sample(self, modules: Mapping[str, nn.Module]) -> Image.Image:
        names = [each.name for each in self._config.classes]
        asked = torch.arange(len(names)).repeat_interleave(12)
        return grid(draw_classes(cast(ImageFlow, modules["flow"]), asked), 12, names)
