"""Owns the baseline: a Gaussian of full covariance over the same logits as the flow's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from services.families.flow.logits import to_logits


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Fitted to dequantised training images, whatever their class."""

    normal: MultivariateNormal
    alpha: float

    @classmethod
    def of(cls, values: Tensor, alpha: float) -> Gaussian:
        """Of values (N, 1, S, S), as many as dimensions at least."""
        logits = to_logits(values.double(), alpha)[0].flatten(1)
        return cls(MultivariateNormal(logits.mean(dim=0), covariance_matrix=torch.cov(logits.T)), alpha)

    def log_likelihood(self, values: Tensor) -> Tensor:
        """Nats (N,) of the density over pixel values, float64."""
        logits, log_det = to_logits(values.double(), self.alpha)
        return self.normal.log_prob(logits.flatten(1)) + log_det
