"""Owns the bounds on log-likelihoods that a model with latents gives. Never sees what its data are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from shared.schemas.scores import Metric

DECODED_ROWS = 64  # latents at a time: what bounds the memory of many draws
_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True, slots=True)
class Posterior:
    """q(z|x) of each row: a Gaussian of independent coordinates. mean and log_std (B, Z)."""

    mean: Tensor
    log_std: Tensor

    def draw(self, noise: Tensor) -> Tensor:
        """z = mean + std * noise, the noise being standard normal (Kingma & Welling 2013, section 2.4)."""
        return self.mean + self.log_std.exp() * noise

    def log_density(self, latent: Tensor) -> Tensor:
        """log q(z|x) in nats, (B,)."""
        return normal_log_density(latent, self.mean, self.log_std)

    def of_rows(self, index: Tensor) -> Posterior:
        return Posterior(self.mean[index], self.log_std[index])


class LatentModel(Protocol):
    """p(z), p(x|z) and q(z|x): what a bound needs of a model."""

    def encode(self, data: Tensor) -> Posterior: ...
    def log_likelihood(self, data: Tensor, latent: Tensor) -> Tensor:
        """log p(x|z) in nats, (B,), of data (B, ...) and latents (B, Z)."""
        ...

    def log_prior(self, latent: Tensor, log_classes: Tensor) -> Tensor:
        """log p(z) in nats, (B,), classes being as likely as log_classes (B, K) says."""
        ...


class ClassPrior(nn.Module):
    """p(z|y): for each class y a mixture of Gaussians of independent coordinates, each as likely; p(z) is that of all.

    Neither encoder nor decoder knows a class, so that what is given can be read without one.
    """

    def __init__(self, classes: int, components: int, latent_size: int) -> None:
        super().__init__()
        self.classes, self.components = classes, components
        self.mean = nn.Parameter(0.1 * torch.randn(classes * components, latent_size))  # (K M, Z), class by class
        self.log_std = nn.Parameter(torch.zeros(classes * components, latent_size))

    def log_density(self, latent: Tensor, log_classes: Tensor) -> Tensor:
        """log sum_y p(y) p(z|y), (B,), of latents (B, Z) and log p(y) (B, K): one 0 among -inf is one class alone."""
        each = self._log_densities(latent).unflatten(1, (self.classes, self.components))
        return torch.logsumexp(torch.logsumexp(each, dim=2) - math.log(self.components) + log_classes, dim=1)

    def divergence(self, posterior: Posterior, classes: Tensor) -> Tensor:
        """KL(q(z|x) || p(z|y)) in nats, (B, Z) by coordinate, of classes int64 (B,) (the same, appendix B).

        Of a prior of one Gaussian a class: of a mixture there is no closed form.
        """
        if self.components != 1:
            raise ValueError("the divergence from a mixture has no closed form")
        mean, log_std = self.mean[classes], self.log_std[classes]
        spread = (2 * (posterior.log_std - log_std)).exp()
        offset = (posterior.mean - mean).square() * (-2 * log_std).exp()
        return log_std - posterior.log_std + (spread + offset - 1) / 2

    def nearest(self, latent: Tensor, label: int | None) -> int:
        """Which Gaussian, of a class or of all, a latent (Z,) is likeliest of."""
        densities = self._log_densities(latent[None])[0]
        if label is None:
            return int(densities.argmax())
        first = label * self.components
        return first + int(densities[first : first + self.components].argmax())

    def _log_densities(self, latent: Tensor) -> Tensor:
        """(B, K M) of latents (B, Z)."""
        return normal_log_density(latent[:, None], self.mean, self.log_std)


def normal_log_density(value: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Nats, summed over the last dimension, which is one of independent coordinates."""
    scaled = (value - mean) * (-log_std).exp()
    return -(scaled.square() / 2 + log_std + _LOG_2PI / 2).sum(-1)


def log_classes(labels: Sequence[int | None], count: int) -> Tensor:
    """float32 (B, K) of log p(y): all on a label, or the same for each class where it is None."""
    rows = torch.full((len(labels), count), -math.log(count))
    for row, label in zip(rows, labels, strict=True):
        if label is not None:
            row.fill_(-math.inf)
            row[label] = 0.0
    return rows


def log_weights(model: LatentModel, data: Tensor, classes: Tensor, noise: Sequence[Tensor]) -> list[Tensor]:
    """log p(x, z) - log q(z|x) in nats, for each row of data (B, ...) at its own draws: S_i numbers for noise (S_i, Z).

    `classes` (B, K) are log p(y). The mean of a row's numbers is its ELBO, the log of their exponentials' mean its
    importance-weighted bound.
    """
    posterior = model.encode(data)
    counts = [len(each) for each in noise]
    owners = torch.arange(len(data), device=data.device).repeat_interleave(torch.tensor(counts, device=data.device))
    parts: list[Tensor] = []
    for owner, draws in zip(owners.split(DECODED_ROWS), torch.cat(list(noise)).split(DECODED_ROWS), strict=True):
        known = posterior.of_rows(owner)
        latent = known.draw(draws)
        joint = model.log_likelihood(data[owner], latent) + model.log_prior(latent, classes[owner])
        parts.append(joint - known.log_density(latent))
    return list(torch.cat(parts).split(counts))


@dataclass(frozen=True, slots=True)
class Bound:
    """A lower bound on log p(x) in nats, as drawn. The expectation is one; `standard_error` is of the draw."""

    value: float
    standard_error: float | None


def elbo(weights: Tensor) -> Bound:
    """The evidence lower bound (Kingma & Welling 2013, eq. 2) from log-weights (S,). One draw tells no error."""
    exact = weights.double()
    error = float(exact.std() / math.sqrt(len(exact))) if len(exact) > 1 else None
    return Bound(float(exact.mean()), error)


def importance_weighted_bound(weights: Tensor) -> Bound:
    """log of the mean of the weights (Burda 2016, arXiv:1509.00519, eq. 8) from log-weights (S,).

    Never below the ELBO of the same draws, and in expectation the tighter the more there are. A few of the draws carry
    most of the weight, so that their spread tells little of the error: none is given.
    """
    exact = weights.double()
    return Bound(float(torch.logsumexp(exact, 0)) - math.log(len(exact)), None)


BOUNDS: Mapping[Metric, Callable[[Tensor], Bound]] = {
    "elbo": elbo,
    "importance_weighted_bound": importance_weighted_bound,
}
