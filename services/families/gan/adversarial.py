"""Owns the game of generator and discriminator: losses, held-out distance, sample sheets. Knows no data set by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from PIL import Image
from torch import Tensor, nn

from services.families.gan.discriminator import Discriminator
from services.families.gan.drawing import draw_classes
from services.families.gan.model import Generator, GeneratorConfig, one_hot
from services.families.gan.sheets import class_sheet
from services.nn.weights import use_channels_last
from services.training.augment import Augmentation, augment
from services.training.distances import FeatureStatistics, frechet_distance
from services.training.image_data import Split
from services.training.judge import Judge, train_judge
from services.training.recipe import Phase

_PHASES = (
    # Two time scales: the discriminator learns faster (Heusel 2017, arXiv:1706.08500).
    Phase("discriminator", ("discriminator",), learning_rate=4e-4, betas=(0.0, 0.99)),
    Phase("generator", ("generator",), learning_rate=2e-4, betas=(0.0, 0.99)),
)


@dataclass(frozen=True, slots=True)
class Arena:
    """What a game is played with, besides the data."""

    generator: GeneratorConfig
    discriminator_widths: tuple[int, ...]
    augmentations: Sequence[Augmentation]


class AdversarialTraining:
    """Implements `services.training.recipe.Training` with the hinge loss (Lim & Ye 2017, arXiv:1705.02894)."""

    averaged: Sequence[str] = ("generator",)
    phases: Sequence[Phase] = _PHASES

    def __init__(self, arena: Arena, split: Split, seed: int) -> None:
        config = arena.generator
        with torch.random.fork_rng(devices=[]):  # modules draw their first weights from torch's own generator
            torch.manual_seed(seed)
            self._generator = Generator(config)
            self._discriminator = Discriminator(
                channels=config.channels,
                classes=len(config.classes),
                image_size=config.image_size,
                widths=arena.discriminator_widths,
            )
        for module in self.modules.values():
            use_channels_last(module)
        self._arena, self._split = arena, split

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"generator": self._generator, "discriminator": self._discriminator}

    @property
    def examples(self) -> int:
        return len(self._split.train)

    def batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Real images (B, C, H, W) in [-1, 1] and their classes (B,)."""
        return self._split.train.units(indices), self._split.train.classes[indices]

    def loss(
        self, phase: str, modules: Mapping[str, nn.Module], batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        """Generated images have the classes of the real ones: the score compares like with like."""
        images, classes = batch
        latent = torch.randn(len(classes), self._arena.generator.latent_size, generator=generator).to(images.device)
        drawn = modules["generator"](latent, one_hot(classes, len(self._arena.generator.classes)))
        fake = augment(drawn.float(), self._arena.augmentations, generator)
        discriminator = modules["discriminator"]
        if phase == "generator":
            return -discriminator(fake, classes).mean(), {}
        real = augment(images, self._arena.augmentations, generator)
        real_scores: Tensor = discriminator(real, classes)
        fake_scores: Tensor = discriminator(fake, classes)
        loss = (1 - real_scores).relu().mean() + (1 + fake_scores).relu().mean()
        return loss, {"real": real_scores.mean().item(), "fake": fake_scores.mean().item()}

    def validate(self, modules: Mapping[str, nn.Module]) -> Mapping[str, float]:
        """Frechet distance to held-out images in the judge's features, and how often it sees the asked class."""
        drawn, asked = draw_classes(cast(Generator, modules["generator"]), self._split.held_out.classes)
        features, logits = self._judge.judge(drawn)
        distance = frechet_distance(FeatureStatistics.of(features), self._held_out)
        return {"metric": distance, "class_accuracy": (logits.argmax(1) == asked).float().mean().item()}

    def sample(self, modules: Mapping[str, nn.Module]) -> Image.Image:
        return class_sheet(cast(Generator, modules["generator"]), columns=12)

    @cached_property
    def _judge(self) -> Judge:
        return train_judge(self._split.train)

    @cached_property
    def _held_out(self) -> FeatureStatistics:
        return FeatureStatistics.of(self._judge.judge(self._split.held_out.units())[0])
