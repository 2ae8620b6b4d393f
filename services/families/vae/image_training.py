"""Owns the training of an autoencoder of images: its loss, its validation, the sheet to look at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from PIL import Image
from torch import Tensor, nn

from services.families.vae.image_model import ImageVae, ImageVaeConfig
from services.families.vae.image_sheets import class_sheet
from services.nn.weights import use_channels_last
from services.training.image_data import ImageSet, Split
from services.training.recipe import Phase

_PHASES = (Phase("bound", ("vae",), learning_rate=1e-3),)
_SHIFT = 2  # pixels in each direction


class ImageTraining:
    """Implements `services.training.recipe.Training`: the ELBO of images given their class is to rise.

    The prior is one Gaussian a class meanwhile, from which the divergence has a closed form.
    """

    averaged: Sequence[str] = ("vae",)
    phases: Sequence[Phase] = _PHASES

    def __init__(self, config: ImageVaeConfig, split: Split, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):  # modules draw their first weights from torch's own generator
            torch.manual_seed(seed)
            self._vae = ImageVae(config.model_copy(update={"components": 1}))
        use_channels_last(self._vae)
        self._config, self._split = config, split

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"vae": self._vae}

    @property
    def examples(self) -> int:
        return len(self._split.train)

    def batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images uint8 (B, C, H, W), mirrored and shifted at random, and their classes (B,)."""
        train = self._split.train
        return moved(train.images[indices], generator), train.classes[indices]

    def loss(
        self, phase: str, modules: Mapping[str, nn.Module], batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        """-ELBO in nats per number of the image, the divergence from the prior in closed form."""
        images, classes = batch
        noise = torch.randn(len(classes), self._config.latent_size, generator=generator).to(images.device)
        loss, rate = _negative_elbo(cast(ImageVae, modules["vae"]), images, classes, noise)
        return loss.mean(), {"rate": rate}

    def validate(self, modules: Mapping[str, nn.Module]) -> Mapping[str, float]:
        """Bits per number of held-out images, and of as many training ones, by one draw each."""
        vae = cast(ImageVae, modules["vae"])
        held_out, train = self._split.held_out, self._split.train
        some = torch.arange(0, len(train), max(1, len(train) // len(held_out)))
        return {"metric": _bits(vae, held_out), "training": _bits(vae, train.subset(some))}

    def sample(self, modules: Mapping[str, nn.Module]) -> Image.Image:
        return class_sheet(cast(ImageVae, modules["vae"]), columns=12)


def _negative_elbo(vae: ImageVae, images: Tensor, classes: Tensor, noise: Tensor) -> tuple[Tensor, float]:
    """In nats per number, (B,); and the mean divergence from the prior in nats."""
    posterior = vae.encode(images)
    divergence = vae.prior.divergence(posterior, classes).sum(1)
    likelihood = vae.log_likelihood(images, posterior.draw(noise))
    return (divergence - likelihood) / vae.config.numbers, divergence.mean().item()


def _bits(vae: ImageVae, images: ImageSet) -> float:
    noise = torch.randn(len(images), vae.config.latent_size, generator=torch.Generator().manual_seed(0))
    device = next(vae.parameters()).device
    loss, _ = _negative_elbo(vae, images.images.to(device), images.classes.to(device), noise.to(device))
    return loss.mean().item() / math.log(2)


def moved(images: Tensor, generator: torch.Generator) -> Tensor:
    """Half of them mirrored, each shifted by up to _SHIFT pixels; the border's pixels fill what was outside."""
    count, _, side, _ = images.shape
    span = torch.arange(side)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    shifts = torch.randint(-_SHIFT, _SHIFT + 1, (2, count, 1), generator=generator)
    columns = torch.where(mirrored, span.flip(0), span)  # (B, W)
    rows, columns = ((each + shift).clamp(0, side - 1) for each, shift in zip((span, columns), shifts, strict=True))
    each = torch.arange(count)[:, None, None]
    return images.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
