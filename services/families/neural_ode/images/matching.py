"""Owns the flow-matching loss, and a training by it. Knows no data set by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from PIL import Image
from torch import Tensor, nn

from services.families.neural_ode.images.model import FlowConfig, VelocityField
from services.families.neural_ode.images.pixels import to_space
from services.families.neural_ode.images.sheets import class_sheet
from services.training.image_data import ImageSet, Split
from services.training.recipe import Phase

_CLASS_DROPOUT = 0.1  # so often is the class withheld: what teaches the flow over all classes
_VALIDATED = 256  # held-out images


def flow_loss(model: nn.Module, data: Tensor, noise: Tensor, times: Tensor, class_weights: Tensor) -> Tensor:
    """Mean of |v(x_t, t) - (x_1 - x_0)|^2 at x_t = (1 - t) x_0 + t x_1 (Lipman 2023, arXiv:2210.02747, eq. 23).

    data x_1 and noise x_0 (B, C, H, W), times t (B,) in [0, 1], class_weights (B, K + 1).
    """
    t = times[:, None, None, None]
    velocity = model((1 - t) * noise + t * data, times, class_weights)
    return (velocity.float() - (data - noise)).square().mean()


@dataclass(frozen=True, slots=True)
class FixedDraws:
    """Data and noise (N, C, H, W), times (N,) and classes (N,) that are the same at every measure."""

    data: Tensor
    noise: Tensor
    times: Tensor
    classes: Tensor

    @classmethod
    def of(cls, images: ImageSet, count: int, seed: int = 0) -> FixedDraws:
        """`count` images, evenly spaced; times evenly spaced over (0, 1), in an order of their own."""
        draws = torch.Generator().manual_seed(seed)
        rows = torch.arange(count) * len(images) // count
        levels = images.images[rows]
        data = to_space(levels, torch.rand(levels.shape, generator=draws))
        noise = torch.randn(data.shape, generator=draws)
        times = (torch.randperm(count, generator=draws) + 0.5) / count
        return cls(data, noise, times, images.classes[rows])

    @torch.no_grad()
    def loss(self, model: VelocityField, *, with_classes: bool = True) -> float:
        labels = self.classes if with_classes else torch.full_like(self.classes, model.no_class)
        device = model.patches.weight.device
        parts = (self.data, self.noise, self.times, model.one_hot(labels))
        return flow_loss(model, *(part.to(device) for part in parts)).item()


class FlowMatching:
    """Implements `services.training.recipe.Training`."""

    averaged: Sequence[str] = ("flow",)
    phases: Sequence[Phase] = (Phase("matching", ("flow",), learning_rate=2e-3, betas=(0.9, 0.99)),)

    def __init__(self, config: FlowConfig, split: Split, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):  # modules draw their first weights from torch's own generator
            torch.manual_seed(seed)
            self._flow = VelocityField(config)
        known = split.train.images
        self._flow.fit(to_space(known, torch.rand(known.shape, generator=torch.Generator().manual_seed(seed))))
        self._split = split
        self._fixed = FixedDraws.of(split.held_out, min(_VALIDATED, len(split.held_out)))

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"flow": self._flow}

    @property
    def examples(self) -> int:
        return len(self._split.train)

    def batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) as the flow sees them, dequantised anew each time, and classes (B,), some withheld."""
        levels, classes = self._split.train.images[indices], self._split.train.classes[indices]
        data = to_space(levels, torch.rand(levels.shape, generator=generator))
        withheld = torch.rand(len(classes), generator=generator) < _CLASS_DROPOUT
        return data, torch.where(withheld, self._flow.no_class, classes)

    def loss(
        self, phase: str, modules: Mapping[str, nn.Module], batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        data, classes = batch
        noise = torch.randn(data.shape, generator=generator).to(data.device)
        # One uniform shift of an even grid: less varied than times of their own (Kingma 2021, arXiv:2107.00630).
        times = (torch.arange(len(data)) + torch.rand(1, generator=generator)) / len(data)
        weights = self._flow.one_hot(classes)
        return flow_loss(modules["flow"], data, noise, times.to(data.device), weights), {}

    def validate(self, modules: Mapping[str, nn.Module]) -> Mapping[str, float]:
        """The loss of held-out images, with and without their classes."""
        flow = cast(VelocityField, modules["flow"])
        return {"metric": self._fixed.loss(flow), "without_classes": self._fixed.loss(flow, with_classes=False)}

    def sample(self, modules: Mapping[str, nn.Module]) -> Image.Image:
        return class_sheet(cast(VelocityField, modules["flow"]), columns=6)
