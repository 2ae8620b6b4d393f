"""Owns images and likelihoods in bulk, for measuring and for sheets. Serving goes through the sampler."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from services.families.flow.model import ImageFlow, ImageFlowConfig, one_hot, over_classes
from services.families.flow.pixels import to_units
from services.nn.weights import load_model

_ROWS = 250  # at a time
SEED = 20240601  # of the latents that evaluations and sheets draw


def load_flow(folder: Path) -> ImageFlow:
    """In float32 on the CPU, as evaluations need it whatever serves it."""
    return load_model(ImageFlow, ImageFlowConfig, folder, dtype=torch.float32, device=torch.device("cpu"))


@torch.inference_mode()
def draw_classes(flow: ImageFlow, classes: Tensor, *, temperature: float = 1.0, seed: int = SEED) -> Tensor:
    """An image of each class in `classes` int64 (N,): float32 (N, 1, S, S) in [-1, 1], the same each time."""
    z = torch.randn(len(classes), flow.config.dimensions, generator=torch.Generator().manual_seed(seed)) * temperature
    weights = one_hot(classes, len(flow.config.classes))
    parts = zip(z.split(_ROWS), weights.split(_ROWS), strict=True)
    return torch.cat([to_units(flow.inverse(latent, part)) for latent, part in parts])


def dequantised(pixels: Tensor) -> Tensor:
    """uint8 (N, 1, S, S) -> float32 values, each image with noise of its own in [0, 1)."""
    return pixels + torch.rand(pixels.shape, generator=torch.Generator().manual_seed(SEED))


@torch.inference_mode()
def log_likelihoods(flow: ImageFlow, values: Tensor, classes: Tensor) -> Tensor:
    """Nats (N,) of each image given its class in `classes` int64 (N,)."""
    weights = one_hot(classes, len(flow.config.classes))
    parts = zip(values.split(_ROWS), weights.split(_ROWS), strict=True)
    return torch.cat([flow.log_likelihood(image, part) for image, part in parts])


def by_class(flow: ImageFlow, values: Tensor) -> Tensor:
    """Nats (N, K) of each image given each class."""
    classes = range(len(flow.config.classes))
    return torch.stack([log_likelihoods(flow, values, torch.full((len(values),), each)) for each in classes], dim=1)


def marginal(flow: ImageFlow, values: Tensor) -> Tensor:
    """Nats (N,) of each image, whatever its class."""
    return over_classes(by_class(flow, values))


def bits_per_dimension(nats: Tensor, dimensions: int) -> float:
    """The mean over images."""
    return -nats.double().mean().item() / (dimensions * math.log(2))
