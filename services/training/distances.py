"""Owns distances between sets of images, given as features. Never sees a network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class FeatureStatistics:
    """Mean float64 (D,) and covariance float64 (D, D) of a set of features."""

    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, features: Tensor) -> FeatureStatistics:
        """Of features (N, D), N at least 2."""
        exact = features.double()
        return cls(exact.mean(0), torch.cov(exact.T))


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """|mean difference|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2) (Dowson & Landau 1982; Heusel 2017, eq. 6).

    The matrix under the root is symmetric, so its root's trace is the sum of the roots of its eigenvalues.
    """
    root = _symmetric_root(a.covariance)
    inner = root @ b.covariance @ root
    cross = torch.linalg.eigvalsh((inner + inner.T) / 2).clamp(min=0).sqrt().sum()
    gap = (a.mean - b.mean).square().sum()
    return max(0.0, float(gap + a.covariance.trace() + b.covariance.trace() - 2 * cross))


def _symmetric_root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def pooled_pixels(images: Tensor, side: int) -> Tensor:
    """Features that need no network: images (N, C, H, W) averaged to (side, side), flat (N, C * side**2)."""
    return functional.adaptive_avg_pool2d(images, side).flatten(1)


def nearest_class(images: Tensor, known: Tensor, classes: Tensor) -> Tensor:
    """int64 (N,): the class of each image's nearest neighbour by pixels among `known` (M, C, H, W)."""
    distances = torch.cdist(images.flatten(1), known.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
    return classes[distances.argmin(1)]
