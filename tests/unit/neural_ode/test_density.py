"""The instantaneous change of variables: toys in the plane, against torchdiffeq, and the trace's estimate."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torchdiffeq import odeint

from services.families.neural_ode.images.density import exact_trace, hutchinson, log_likelihood
from services.families.neural_ode.images.drawing import SEED, Solver, likelihoods
from services.families.neural_ode.images.params import ScoreParams
from services.families.neural_ode.images.paths import score_paths
from services.families.neural_ode.images.pixels import log_volume, to_space
from services.families.neural_ode.solvers import METHODS, Field, solve
from tests.unit.neural_ode.tiny import make_flow, make_images

METHOD = METHODS["rk4"]


class Toy(nn.Module):
    """A field of the plane that changes with time, far from linear."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Linear(3, 24), nn.Tanh(), nn.Linear(24, 2))
            for parameter in self.parameters():
                nn.init.normal_(parameter, std=0.7)
        self.double().requires_grad_(False)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.layers(torch.cat([x, time[:, None]], dim=1))


def points(count: int) -> Tensor:
    return torch.randn(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def reference(field: Field, x: Tensor) -> Tensor:
    """log p (N,) by torchdiffeq's adaptive solver, the Jacobian taken whole."""

    def augmented(time: Tensor, state: Tensor) -> Tensor:
        at = state[:, :2]
        jacobian = torch.func.vmap(torch.func.jacrev(lambda row: field(row[None], time.expand(1))[0]))(at)
        trace = jacobian.diagonal(dim1=1, dim2=2).sum(1)
        return torch.cat([field(at, time.expand(len(at))), trace[:, None]], dim=1)

    times = torch.tensor([1.0, 0.0], dtype=torch.float64)
    state = torch.cat([x, x.new_zeros(len(x), 1)], dim=1)
    end = odeint(augmented, state, times, method="dopri5", rtol=1e-7, atol=1e-7)[1]
    return -0.5 * end[:, :2].square().sum(1) - math.log(2 * math.pi) + end[:, 2]


def test_log_p_with_the_exact_trace_is_torchdiffeq_s() -> None:
    field, x = Toy(), points(8)
    ours = log_likelihood(field, x, exact_trace, steps=40, method=METHOD)
    assert torch.allclose(ours, reference(field, x), atol=1e-5)


def test_the_density_of_the_plane_integrates_to_one() -> None:
    line = torch.linspace(-9, 9, 121, dtype=torch.float64)
    cell = (line[1] - line[0]).item() ** 2
    plane = torch.cartesian_prod(line, line)
    density = log_likelihood(Toy(), plane, exact_trace, steps=12, method=METHOD).exp()
    assert density.sum().item() * cell == pytest.approx(1, abs=0.01)
    flat = torch.distributions.Normal(0.0, 1.0).log_prob(plane).sum(1).exp()
    assert (density - flat).abs().max() > 0.05, "the toy must change the density, or nothing is shown"


def test_the_density_is_that_of_the_points_that_flow_out_of_noise() -> None:
    """A linear field has a closed form: x(1) = e x(0) has the log-density of N(0, e^2)."""
    ours = log_likelihood(lambda x, time: x, points(10), exact_trace, steps=20, method=METHOD)
    assert torch.allclose(ours, torch.distributions.Normal(0.0, math.e).log_prob(points(10)).sum(1), atol=1e-6)


def test_flowing_there_and_back_returns_to_the_noise() -> None:
    field, x = Toy(), points(10)
    there = solve(field, x, 0.0, 1.0, steps=40, method=METHOD)
    assert torch.allclose(solve(field, there, 1.0, 0.0, steps=40, method=METHOD), x, atol=1e-6)


def test_hutchinson_s_mean_is_the_exact_value_within_its_error_bar() -> None:
    field, count = Toy(), 400
    for x in points(3):
        exact = log_likelihood(field, x[None], exact_trace, steps=10, method=METHOD).item()
        draws = torch.Generator().manual_seed(2)
        probes = torch.randint(2, (count, 2), generator=draws).double() * 2 - 1
        found = log_likelihood(field, x.expand(count, 2), hutchinson(probes), steps=10, method=METHOD)
        bar = (found.std() / count**0.5).item()
        assert 0 < bar < 0.2
        assert abs(found.mean().item() - exact) < 4 * bar


def test_a_score_s_estimate_is_the_exact_one_within_its_error_bar_for_an_image() -> None:
    """The same dequantisations with all 64 columns of the Jacobian."""
    model = make_flow().double()
    image = make_images(1)[0][0]
    images, count = image.expand(24, 1, 8, 8), 24
    estimates = likelihoods(model, images, Solver("midpoint", 3))
    rest = torch.rand(images.shape, generator=torch.Generator().manual_seed(SEED)).double()
    field = model.given(model.one_hot(torch.full((count,), model.no_class)))
    exact = log_likelihood(
        field, to_space(image, rest).flatten(1), exact_trace, steps=3, method=METHODS["midpoint"]
    ) + log_volume(images, rest)
    gaps = estimates - exact
    assert gaps.std() > 0.01, "the probes must make a difference"
    assert abs(gaps.mean().item()) < 4 * gaps.std().item() / count**0.5


def test_the_volume_of_the_way_into_the_space_is_its_derivative() -> None:
    levels = torch.tensor([[0, 1, 100, 254, 255]], dtype=torch.uint8)
    rest = torch.tensor([[0.01, 0.5, 0.3, 0.7, 0.99]], dtype=torch.float64)
    tiny = 1e-6
    slopes = (to_space(levels, rest + tiny) - to_space(levels, rest - tiny)) / (2 * tiny)
    assert log_volume(levels, rest).item() == pytest.approx(slopes.log().sum().item(), abs=1e-4)


def test_a_likelihood_is_the_mean_over_dequantisations_and_of_every_class_apart() -> None:
    model = make_flow()
    image = make_images(1)[0][0]
    row = ScoreParams(image, None, samples=3, seed=7, steps=4, evaluations=2)
    paths, again = (score_paths(row, model, torch.float32) for _ in range(2))
    assert torch.equal(paths.state, again.state), "a seed draws the same"
    assert not torch.equal(paths.state[0], paths.state[1]), "each sample is a dequantisation of its own"
    assert paths.probes is not None
    assert set(paths.probes.unique().tolist()) == {-1.0, 1.0}
    assert paths.classes.argmax(1).tolist() == [model.no_class] * 3
