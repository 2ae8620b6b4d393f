"""Steps of our methods against torchdiffeq and against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchdiffeq import odeint

from services.families.neural_ode.solvers import METHODS, solve, take_step
from shared.config.neural_ode import EVALUATIONS
from tests.unit.neural_ode.tiny import make_latent_ode


def turning(x: Tensor, time: Tensor) -> Tensor:
    """A field that changes with time and is not linear: x (B, 2), time (B,)."""
    first, second = x.unbind(1)
    return torch.stack([-second * (1 + time), first - 0.1 * first**3 + time.sin()], dim=1)


def points(count: int = 5) -> Tensor:
    return torch.randn(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def reference(x: Tensor, start: float, end: float, **options: object) -> Tensor:
    times = torch.tensor([start, end], dtype=torch.float64)
    return odeint(lambda t, y: turning(y, t.expand(len(y))), x, times, **options)[-1]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (1.0, 0.0)])
def test_a_fixed_grid_is_solved_as_torchdiffeq_solves_it(name: str, start: float, end: float) -> None:
    ours = solve(turning, points(), start, end, steps=8, method=METHODS[name])
    theirs = reference(points(), start, end, method=name, options={"step_size": 1 / 8})
    assert torch.allclose(ours, theirs, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", METHODS)
def test_the_error_falls_by_the_method_s_order(name: str) -> None:
    method = METHODS[name]
    exact = reference(points(), 0.0, 1.0, method="dopri5", rtol=1e-10, atol=1e-10)
    coarse, fine = (
        (solve(turning, points(), 0.0, 1.0, steps=steps, method=method) - exact).abs().max().item()
        for steps in (20, 40)
    )
    assert math.log2(coarse / fine) == pytest.approx(method.order, abs=0.35)


def test_rows_at_their_own_time_with_their_own_width_are_those_alone() -> None:
    x = points(3)
    time, width = torch.tensor([0.0, 0.3, 1.0]).double(), torch.tensor([0.1, 0.25, -0.5]).double()
    together = take_step(turning, x, time, width, METHODS["rk4"])
    for i in range(3):
        alone = take_step(turning, x[i : i + 1], time[i : i + 1], width[i : i + 1], METHODS["rk4"])
        assert torch.equal(together[i], alone[0])


def test_a_step_of_no_width_stands_still() -> None:
    x = points()
    still = torch.zeros(len(x), dtype=torch.float64)
    assert torch.equal(take_step(turning, x, still, still, METHODS["rk4"]), x)


def test_a_latent_moves_as_torchdiffeq_moves_it_and_its_static_part_stays() -> None:
    model = make_latent_ode().double()
    latent = torch.randn(4, model.config.latent, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([0.0, 3.0], dtype=torch.float64)
    theirs = odeint(lambda t, z: model(z, t.expand(len(z))), latent, times, method="dopri5", rtol=1e-7, atol=1e-7)[1]
    ours = solve(model, latent, 0.0, 3.0, steps=60, method=METHODS["rk4"])
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert torch.equal(ours[:, model.config.moving :], latent[:, model.config.moving :])
    assert (ours - latent).abs().max() > 0.1


def test_the_configuration_counts_a_method_s_evaluations_as_they_are() -> None:
    assert {name: method.evaluations for name, method in METHODS.items()} == EVALUATIONS
