"""Owns picking: which of some real pictures a drawn one is, by its pixels or by a classifier. Never sees a denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from services.nn.rng import row_generator

_BLUR_SIGMA, _BLUR_RADIUS = 1.0, 2  # pixels


def nearest(drawn: Tensor, candidates: Tensor) -> list[int]:
    """For each drawn image (N, 3, H, W) the candidate (N, K, 3, H, W) that is nearest: index in [0, K).

    Distance: root of summed squares over the pixels of both, blurred (Gaussian, sigma one pixel), in RGB.
    """
    n, k = candidates.shape[:2]
    there = blur(candidates.flatten(0, 1)).view(n, k, -1)
    here = blur(drawn).flatten(1)[:, None]
    return (there - here).square().sum(-1).argmin(-1).tolist()


def blur(images: Tensor) -> Tensor:
    """(N, C, H, W) convolved with a Gaussian; edges are repeated."""
    offsets = torch.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1)
    weights = torch.exp(-offsets.square() / (2 * _BLUR_SIGMA**2))
    kernel = (weights / weights.sum()).expand(images.shape[1], 1, 1, -1)
    padded = F.pad(images, (_BLUR_RADIUS,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel, groups=images.shape[1]), kernel.mT, groups=images.shape[1])


def candidate_rows(asked: Sequence[int], among: Sequence[int], count: int, seed: int) -> Tensor:
    """(N, count) int64: for each asked row itself, first, and others of `among` at random, none twice."""
    generator = row_generator(seed)
    rows: list[list[int]] = []
    for row in asked:
        others = [other for other in among if other != row]
        order = torch.randperm(len(others), generator=generator)[: count - 1].tolist()
        rows.append([row, *(others[place] for place in order)])
    return torch.tensor(rows)


class Classifier(nn.Module):
    """A small convolutional network: images (B, 3, 32, 32) to logits (B, classes)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        widths = (3, 32, 64, 128)
        self.layers = nn.Sequential()
        for channels, wider in pairwise(widths):
            self.layers.extend((nn.Conv2d(channels, wider, 3, stride=2, padding=1), nn.GroupNorm(8, wider), nn.SiLU()))
        self.output = nn.Linear(128 * 16, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.output(self.layers(images).flatten(1))


def train_classifier(images: Tensor, *, steps: int, seed: int = 0, batch_size: int = 128) -> Classifier:
    """A classifier of real images (N, 3, 32, 32), each its own class, that has seen them augmented. Deterministic."""
    generator = row_generator(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = Classifier(len(images))
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=2e-3, fused=True)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(images), (batch_size,), generator=generator)
        loss = F.cross_entropy(classifier(augmented(images[rows], generator)), rows)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
    return classifier.eval().requires_grad_(False)


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Scaled by up to a tenth, shifted by up to two pixels, and with noise of up to 0.3 (in [-1, 1])."""
    n = len(images)
    scale = 1 + 0.1 * (2 * torch.rand(n, generator=generator) - 1)
    shift = (2 * torch.rand(n, 2, generator=generator) - 1) * (2 * 2 / images.shape[-1])
    affine = torch.zeros(n, 2, 3)
    affine[:, 0, 0] = affine[:, 1, 1] = scale
    affine[:, :, 2] = shift
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    # Beyond the edge is white, which is 0 of 1 - image.
    moved = 1 - F.grid_sample(1 - images, grid, align_corners=False)
    amount = 0.3 * torch.rand(n, 1, 1, 1, generator=generator)
    return moved + amount * torch.randn(moved.shape, generator=generator)


def classified(classifier: Classifier, drawn: Tensor, candidates: Tensor) -> list[int]:
    """As `nearest`, by the classifier's logits; candidates (N, K) are classes."""
    return classifier(drawn).gather(1, candidates).argmax(-1).tolist()
