"""Owns images of chosen classes in bulk, for measuring and for sheets. Serving draws through the sampler."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from services.families.gan.model import Generator, GeneratorConfig, one_hot
from services.nn.weights import load_model

_ROWS = 250  # at a time
SEED = 20240601  # of the latents that evaluations and sheets draw


def load_generator(folder: Path) -> Generator:
    """In float32 on the CPU, as evaluations need it whatever serves it."""
    return load_model(Generator, GeneratorConfig, folder, dtype=torch.float32, device=torch.device("cpu"))


def latents(generator: Generator, count: int, seed: int = SEED) -> Tensor:
    """(N, Z) standard normal."""
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(count, generator.config.latent_size, generator=draws)


@torch.inference_mode()
def draw(generator: Generator, latent: Tensor, class_weights: Tensor) -> Tensor:
    """float32 (N, C, H, W) in [-1, 1] on the CPU, of latents (N, Z) and class weights (N, K)."""
    weight = next(generator.parameters())
    parts = [
        generator(z.to(weight), w.to(weight)).float().cpu()
        for z, w in zip(latent.split(_ROWS), class_weights.split(_ROWS), strict=True)
    ]
    return torch.cat(parts)


def draw_classes(generator: Generator, classes: Tensor, seed: int = SEED) -> tuple[Tensor, Tensor]:
    """An image of each class in `classes` int64 (N,); returns (images, classes)."""
    weights = one_hot(classes, len(generator.config.classes))
    return draw(generator, latents(generator, len(classes), seed), weights), classes
