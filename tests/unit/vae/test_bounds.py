"""Bounds against an autoencoder whose log-likelihood is known in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from services.families.vae.bounds import (
    DECODED_ROWS,
    ClassPrior,
    Posterior,
    elbo,
    importance_weighted_bound,
    log_classes,
    log_weights,
    normal_log_density,
)

DIMENSIONS, LATENTS, CLASSES = 5, 2, 3
NOISE = 0.5  # deviation of x given z


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


@dataclass
class LinearGaussian:
    """x = W z + b + noise, z of a class prior: all of it is Gaussian. The columns of W are orthogonal.

    So the true posterior of a class has independent coordinates, and `encode` gives it, `off` from its mean and
    `wider` than it by so much.
    """

    prior: ClassPrior
    off: float = 0.0
    wider: float = 1.0

    def __post_init__(self) -> None:
        basis, _ = torch.linalg.qr(normals(DIMENSIONS, LATENTS))
        self.weights = basis * torch.tensor([2.0, 0.7], dtype=torch.float64)  # (D, Z)
        self.offset = normals(DIMENSIONS, seed=1)
        self.encodes = 0  # the class whose posterior `encode` gives

    def encode(self, data: Tensor) -> Posterior:
        mean, variance = self.prior.mean[self.encodes], (2 * self.prior.log_std[self.encodes]).exp()
        spread = 1 / (1 / variance + self.weights.square().sum(0) / NOISE**2)  # (Z,)
        centre = spread * (mean / variance + (data - self.offset) @ self.weights / NOISE**2)
        return Posterior(centre + self.off, (self.wider * spread.sqrt()).log().expand_as(centre))

    def log_likelihood(self, data: Tensor, latent: Tensor) -> Tensor:
        mean = latent @ self.weights.T + self.offset
        return normal_log_density(data, mean, torch.full_like(mean, math.log(NOISE)))

    def log_prior(self, latent: Tensor, log_classes: Tensor) -> Tensor:
        return self.prior.log_density(latent, log_classes)

    def log_evidence(self, data: Tensor, label: int) -> Tensor:
        """log p(x|y), (B,): Gaussian, of mean W m + b and covariance W S W^T + noise."""
        mean, variance = self.prior.mean[label], (2 * self.prior.log_std[label]).exp()
        covariance = self.weights @ torch.diag(variance) @ self.weights.T
        covariance = covariance + NOISE**2 * torch.eye(DIMENSIONS, dtype=torch.float64)
        return MultivariateNormal(self.weights @ mean + self.offset, covariance).log_prob(data)


def make_prior(classes: int, components: int) -> ClassPrior:
    with torch.random.fork_rng(devices=[]):
        prior = ClassPrior(classes, components, LATENTS).double().requires_grad_(False)
    prior.mean.copy_(normals(classes * components, LATENTS, seed=2))
    prior.log_std.copy_(0.3 * normals(classes * components, LATENTS, seed=3))
    return prior


def make_model(**options: float) -> LinearGaussian:
    return LinearGaussian(make_prior(CLASSES, 1), **options)


def weights_of(model: LinearGaussian, data: Tensor, label: int | None, draws: int, seed: int = 0) -> list[Tensor]:
    noise = normals(len(data), draws, LATENTS, seed=seed)
    return log_weights(model, data, log_classes([label] * len(data), CLASSES), list(noise))


DATA = 2 * normals(4, DIMENSIONS, seed=4)


def test_the_true_posterior_gives_the_evidence_at_every_draw() -> None:
    model = make_model()
    for weights, truth in zip(weights_of(model, DATA, 0, 7), model.log_evidence(DATA, 0), strict=True):
        assert torch.allclose(weights, truth.expand(7), atol=1e-9)


def test_the_elbo_is_below_the_importance_weighted_bound_is_below_the_evidence() -> None:
    model = make_model(off=0.15, wider=1.3)
    truths = model.log_evidence(DATA, 0).tolist()
    few, many = (weights_of(model, DATA, 0, draws) for draws in (16, 20_000))
    for row, truth in enumerate(truths):
        assert elbo(few[row]).value <= importance_weighted_bound(few[row]).value
        evidence = elbo(many[row])
        assert evidence.standard_error is not None
        assert evidence.value < truth - 10 * evidence.standard_error, "of another posterior the ELBO is not tight"
        assert evidence.value < importance_weighted_bound(many[row]).value
        assert importance_weighted_bound(many[row]).value == pytest.approx(truth, abs=0.02)


def test_the_importance_weighted_bound_rises_with_the_draws_to_the_evidence() -> None:
    """In expectation (Burda 2016, theorem 1): means over many groups of draws."""
    model = make_model(off=0.15, wider=1.3)
    (weights,) = weights_of(model, DATA[:1], 0, 60_000)
    means = [
        sum(importance_weighted_bound(group).value for group in weights.split(draws)[:1000]) / 1000
        for draws in (1, 5, 50)
    ]
    truth = float(model.log_evidence(DATA[:1], 0))
    assert means[0] < means[1] < means[2] < truth + 0.005


def test_the_gap_of_the_elbo_is_the_divergence_of_the_posteriors() -> None:
    exact, wrong = make_model(), make_model(off=0.15, wider=1.3)
    true, used = (model.encode(DATA) for model in (exact, wrong))
    gap = kl_divergence(
        Independent(Normal(used.mean, used.log_std.exp()), 1), Independent(Normal(true.mean, true.log_std.exp()), 1)
    )
    for row, weights in enumerate(weights_of(wrong, DATA, 0, 20_000)):
        bound = elbo(weights)
        assert bound.standard_error is not None
        expected = float(exact.log_evidence(DATA, 0)[row] - gap[row])
        assert bound.value == pytest.approx(expected, abs=4 * bound.standard_error)


def test_over_all_classes_the_bound_is_on_the_mixture() -> None:
    model = make_model(wider=1.5)
    each = torch.stack([model.log_evidence(DATA, label) for label in range(CLASSES)])
    truth = torch.logsumexp(each - math.log(CLASSES), dim=0)
    for row, weights in enumerate(weights_of(model, DATA, None, 20_000)):
        assert elbo(weights).value < float(truth[row])
        assert importance_weighted_bound(weights).value == pytest.approx(float(truth[row]), abs=0.04)


def test_the_standard_error_is_the_spread_of_repeated_estimates() -> None:
    model = make_model(off=0.15, wider=1.3)
    (weights,) = weights_of(model, DATA[:1], 0, 16 * 2000)
    bounds = [elbo(group) for group in weights.split(16)]
    spread = float(torch.tensor([bound.value for bound in bounds]).std())
    told = torch.tensor([bound.standard_error for bound in bounds]).square().mean().sqrt()
    assert float(told) == pytest.approx(spread, rel=0.1)


def test_a_single_draw_tells_no_error() -> None:
    assert elbo(torch.tensor([-3.0])) == importance_weighted_bound(torch.tensor([-3.0]))
    assert elbo(torch.tensor([-3.0])).standard_error is None


def test_rows_of_unlike_draws_are_the_rows_alone() -> None:
    model = make_model(off=0.1)
    noise = [normals(draws, LATENTS, seed=draws) for draws in (3, DECODED_ROWS + 5, 1, DECODED_ROWS)]
    classes = log_classes([0, None, 2, 1], CLASSES)
    together = log_weights(model, DATA, classes, noise)
    for row in range(4):
        (alone,) = log_weights(model, DATA[row : row + 1], classes[row : row + 1], [noise[row]])
        assert torch.allclose(alone, together[row], atol=1e-12, rtol=0)


def test_log_classes_are_one_class_or_all() -> None:
    rows = log_classes([1, None], 4).exp()
    assert rows[0].tolist() == [0, 1, 0, 0]
    assert torch.allclose(rows[1], torch.full((4,), 0.25))


def distribution(mean: Tensor, log_std: Tensor) -> Any:
    return Independent(Normal(mean, log_std.exp()), 1)


def test_densities_and_divergences_are_those_of_the_library() -> None:
    prior = make_model().prior
    posterior = Posterior(normals(4, LATENTS, seed=5), 0.4 * normals(4, LATENTS, seed=6))
    latent, classes = normals(4, LATENTS, seed=7), torch.tensor([0, 1, 2, 0])
    q, p = distribution(posterior.mean, posterior.log_std), distribution(prior.mean[classes], prior.log_std[classes])
    assert torch.allclose(posterior.log_density(latent), q.log_prob(latent))
    assert torch.allclose(
        prior.log_density(latent, log_classes(classes.tolist(), CLASSES).double()), p.log_prob(latent)
    )
    assert torch.allclose(prior.divergence(posterior, classes).sum(1), kl_divergence(q, p))


def test_a_class_of_many_gaussians_is_their_mixture() -> None:
    prior = make_prior(classes=2, components=3)
    latent = normals(5, LATENTS, seed=8)
    each = torch.stack(
        [distribution(*pair).log_prob(latent) for pair in zip(prior.mean, prior.log_std, strict=True)], 1
    )
    one = prior.log_density(latent, log_classes([1] * 5, 2))
    assert torch.allclose(one, torch.logsumexp(each[:, 3:], 1) - math.log(3))
    assert torch.allclose(
        prior.log_density(latent, log_classes([None] * 5, 2)), torch.logsumexp(each, 1) - math.log(6), atol=1e-6
    )


def test_the_nearest_gaussian_is_the_one_that_a_latent_is_likeliest_of() -> None:
    prior = make_prior(classes=2, components=3)
    for component, mean in enumerate(prior.mean):
        narrow = make_prior(classes=2, components=3)
        narrow.log_std.fill_(-3.0)
        assert narrow.nearest(mean, None) == component
        assert narrow.nearest(mean, component // 3) == component
        assert narrow.nearest(mean, 1 - component // 3) // 3 == 1 - component // 3


def test_of_a_mixture_there_is_no_divergence() -> None:
    posterior = Posterior(torch.zeros(1, LATENTS), torch.zeros(1, LATENTS))
    with pytest.raises(ValueError, match="no closed form"):
        make_prior(classes=2, components=3).divergence(posterior, torch.zeros(1).long())
