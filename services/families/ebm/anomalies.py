"""Owns how well an energy tells images of its kind from others, beside a plain Gaussian. Draws nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from services.families.ebm.model import ANY_CLASS, EnergyNet, energy_of
from services.training.image_data import ImageSet, Split
from services.training.recipe import Figure
from services.training.separation import auroc

_ROWS = 500  # at a time
_RIDGE = 1e-2  # added to each pixel's variance: border pixels never vary


@torch.no_grad()
def energies(net: EnergyNet, images: Tensor, labels: Tensor | None = None) -> Tensor:
    """float32 (N,) in nats, of images (N, C, H, W) in [-1, 1]: of their classes, or over all of them."""
    labels = torch.full((len(images),), ANY_CLASS) if labels is None else labels
    parts = zip(images.split(_ROWS), labels.split(_ROWS), strict=True)
    return torch.cat([energy_of(net(part), of) for part, of in parts])


class Gaussian:
    """The baseline: a Gaussian of all pixels, fitted to the training images."""

    def __init__(self, train: ImageSet) -> None:
        flat = train.units().flatten(1).double()
        self._mean = flat.mean(dim=0)
        covariance = torch.cov(flat.T)
        self._root = torch.linalg.cholesky(covariance + _RIDGE * torch.eye(len(covariance), dtype=torch.float64))

    def distances(self, images: Tensor) -> Tensor:
        """Squared Mahalanobis distances (N,): minus twice the log density, up to a constant."""
        offset = images.flatten(1).double() - self._mean
        return torch.linalg.solve_triangular(self._root, offset.T, upper=False).square().sum(dim=0)


def strange_images(split: Split, other: Tensor) -> Mapping[str, Tensor]:
    """What is no image of the kind, by name, in [-1, 1]: other images (N, C, H, W), noise, mirrored ones."""
    real = split.held_out.units()
    noise = torch.rand(real.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return {"emoji": other, "noise": noise, "mirrored": real.flip(-1)}


_MEANINGS = {
    "emoji": "emoji in grey, in negative so that their ground is black as the digits'",
    "noise": "uniform noise",
    "mirrored": "the held-out images mirrored left to right, of which some are as good as before",
}


def anomaly_figures(net: EnergyNet, split: Split, other: Tensor) -> Iterator[Figure]:
    """How well the energy over all classes tells held-out images from others, and what it gives to training images."""
    gaussian = Gaussian(split.train)
    real = split.held_out.units()
    usual, plain = energies(net, real), gaussian.distances(real)
    for name, images in strange_images(split, other).items():
        yield Figure(
            f"anomaly_auroc_{name}",
            auroc(energies(net, images), usual),
            "higher",
            tolerance=0.01,
            baseline=auroc(gaussian.distances(images), plain),
            baseline_name="log density of a Gaussian of all pixels",
            meaning=f"how often {_MEANINGS[name]} have a higher energy than held-out images",
        )
    yield Figure(
        "held_out_energy",
        usual.mean().item(),
        "lower",
        tolerance=5.0,
        baseline=energies(net, split.train.units()).mean().item(),
        baseline_name="training images",
        meaning="mean energy over all classes in nats, up to a constant: near the other, nothing was learnt by heart",
    )
