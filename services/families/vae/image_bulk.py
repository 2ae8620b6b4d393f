"""Owns images in bulk, drawn and read, for measuring and for sheets. Serving goes through the passes."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from services.families.vae.bounds import BOUNDS, log_classes, log_weights
from services.families.vae.image_model import ImageVae, ImageVaeConfig
from services.nn.weights import load_model
from shared.config.vae import SAMPLES
from shared.schemas.scores import Metric

_ROWS = 250  # at a time
SCORED_EVERY = 3  # training images: a third of them tells how all stand
SEED = 20240601  # of the latents that evaluations and sheets draw


def load_vae(folder: Path) -> ImageVae:
    """In float32 on the CPU, as evaluations need it whatever serves it."""
    return load_model(ImageVae, ImageVaeConfig, folder, dtype=torch.float32, device=torch.device("cpu"))


@torch.inference_mode()
def draw_classes(vae: ImageVae, classes: Tensor, *, truncation: float = 1.0, seed: int = SEED) -> Tensor:
    """An image of each class in `classes` int64 (N,): float32 (N, C, H, W) in [-1, 1] on the CPU."""
    draws, prior = torch.Generator().manual_seed(seed), vae.prior
    component = classes * prior.components + torch.randint(prior.components, classes.shape, generator=draws)
    noise = torch.randn(len(classes), vae.config.latent_size, generator=draws)
    return draw(vae, prior.mean.cpu()[component] + truncation * prior.log_std.cpu()[component].exp() * noise)


@torch.inference_mode()
def draw(vae: ImageVae, latent: Tensor) -> Tensor:
    """float32 (N, C, H, W) in [-1, 1] on the CPU, of latents (N, Z)."""
    device = next(vae.parameters()).device
    return torch.cat([vae.decode(part.to(device))[0].float().cpu() for part in latent.split(_ROWS)]).clamp(-1, 1)


@torch.inference_mode()
def reconstruct(vae: ImageVae, images: Tensor) -> Tensor:
    """float32 (N, C, H, W) in [-1, 1] of images uint8, from the means of their posteriors."""
    return torch.cat([draw(vae, vae.encode(part).mean) for part in images.split(_ROWS)])


@torch.inference_mode()
def scores(vae: ImageVae, images: Tensor, metric: Metric = "elbo") -> Tensor:
    """float64 (N,) in nats, of images uint8 over all classes, each from as many draws as a request gets."""
    draws = torch.Generator().manual_seed(SEED)
    found: list[float] = []
    for part in images.split(_ROWS):
        noise = torch.randn(len(part), SAMPLES[metric], vae.config.latent_size, generator=draws)
        classes = log_classes([None] * len(part), len(vae.config.classes))
        found += [BOUNDS[metric](each).value for each in log_weights(vae, part, classes, list(noise))]
    return torch.tensor(found, dtype=torch.float64)


def bits(vae: ImageVae, nats: Tensor) -> float:
    """Of log-likelihoods (N,), the mean in bits per number of an image, negated: what a code would take."""
    return -float(nats.mean()) / (vae.config.numbers * math.log(2))
