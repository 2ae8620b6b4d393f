"""The density is right: determinants, inversion, and a total of 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from services.families.flow import haar
from services.families.flow.details import DetailFlow
from services.families.flow.logits import LEVELS, from_logits, to_logits
from services.families.flow.model import ImageFlow, ImageFlowConfig, log_normal, one_hot, over_classes
from services.families.flow.vectors import SplineConfig, VectorFlow
from tests.unit.flow.tiny import SCALE, SHAPE, make_flow, some_images

ModuleT = TypeVar("ModuleT", bound=nn.Module)
ONE_SCALE = SHAPE.model_copy(update={"side": 4, "scales": (SCALE,)})


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def values(count: int, side: int, seed: int = 0) -> Tensor:
    """Pixel values with noise, float64 (N, 1, S, S)."""
    shape = (count, 1, side, side)
    return LEVELS * torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def log_abs_det(matrix: Tensor) -> float:
    return torch.linalg.slogdet(matrix)[1].item()


def rows_of_jacobian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """(D, D), by one backward pass of autograd: output i is that of copy i of x (1, ...)."""
    copies = x.repeat(x.numel(), *[1] * (x.ndim - 1)).requires_grad_()
    (rows,) = torch.autograd.grad(function(copies).diagonal().sum(), copies)
    return rows.flatten(1)


def test_the_wavelet_is_undone_and_its_determinant_is_as_stated() -> None:
    image = draws(2, 1, 4, 4)
    coarse, details = haar.halve(image)
    assert torch.equal(coarse[0, 0, 0, 0], image[0, 0, :2, :2].mean())
    assert torch.allclose(haar.double(coarse, details), image, atol=1e-15, rtol=0)

    def flat(x: Tensor) -> Tensor:
        return torch.cat([part.flatten() for part in haar.halve(x.view(1, 1, 4, 4))])

    whole = jacobian(flat, image[0].flatten())
    assert log_abs_det(whole) == pytest.approx(4 * haar.LOG_DET_PER_BLOCK, abs=1e-12)


def test_logits_are_undone_and_their_determinant_is_as_stated() -> None:
    given = values(1, 3)
    logits, log_det = to_logits(given, 0.05)
    assert torch.allclose(from_logits(logits, 0.05), given, atol=1e-10, rtol=0)
    whole = jacobian(lambda x: to_logits(x.view(1, 1, 3, 3), 0.05)[0].flatten(), given.flatten())
    assert log_det.item() == pytest.approx(log_abs_det(whole), abs=1e-10)


def test_a_pixel_at_either_end_has_a_finite_logit() -> None:
    logits, log_det = to_logits(torch.tensor([[0.0, 255 + 0.99999994]]), 0.05)
    assert logits.isfinite().all()
    assert log_det.isfinite().all()


@pytest.mark.parametrize("shape", [SHAPE, ONE_SCALE], ids=["two scales", "one scale"])
def test_the_log_determinant_is_that_of_autograd_s_jacobian(shape: ImageFlowConfig) -> None:
    flow = make_flow(shape).double()
    weights = one_hot(torch.tensor([1]), 3).double()
    given = values(1, shape.side, seed=3)
    z, log_det = flow(given, weights)
    whole = rows_of_jacobian(lambda x: flow(x, weights.expand(len(x), -1))[0], given)
    assert log_det.item() == pytest.approx(log_abs_det(whole), abs=1e-8)
    assert flow.log_likelihood(given, weights).item() == pytest.approx(log_normal(z).item() + log_abs_det(whole))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 0.1)])
def test_images_come_back_through_the_inverse(dtype: torch.dtype, tolerance: float) -> None:
    """In levels of 255: half a level would change a pixel."""
    flow = make_flow().to(dtype)
    given = values(16, 8).to(dtype)
    weights = one_hot(torch.arange(16) % 3, 3).to(dtype)
    z, _ = flow(given, weights)
    assert (flow.inverse(z, weights) - given).abs().max() < tolerance


def moons(count: int, seed: int = 0) -> Tensor:
    """float32 (N, 2): two half circles, one in the other's hollow."""
    generator = torch.Generator().manual_seed(seed)
    angle = math.pi * torch.rand(count, generator=generator)
    side = torch.arange(count) % 2
    x = torch.stack([angle.cos() + side - 0.5, angle.sin() * (1 - 2 * side) + side * 0.5 - 0.25], dim=1)
    return 1.5 * x + 0.1 * torch.randn(count, 2, generator=generator)


def grid(low: float, high: float, count: int) -> tuple[Tensor, float]:
    """The middles of the cells of a square grid, (N * N, 2), and a cell's area."""
    step = (high - low) / count
    at = low + step * (torch.arange(count) + 0.5)
    return torch.cartesian_prod(at, at), step**2


def test_a_density_that_was_learned_in_two_dimensions_has_a_total_of_one() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        flow = VectorFlow(2, 1, SplineConfig(couplings=3, hidden=(24,), bins=6))
    optimizer = torch.optim.Adam(flow.parameters(), lr=2e-2)
    losses: list[float] = []
    for step in range(50):
        x = moons(128, seed=step)
        z, log_det = flow(x, torch.ones(len(x), 1))
        loss = -(log_normal(z) + log_det).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5, "nothing was learned, so the test would show little"
    points, area = grid(-6, 6, 120)
    with torch.no_grad():
        z, log_det = flow(points, torch.ones(len(points), 1))
    assert (log_normal(z) + log_det).exp().sum().item() * area == pytest.approx(1, abs=0.01)


def test_the_density_of_whole_images_has_a_total_of_one() -> None:
    """Four pixels, so a grid of four dimensions, over logits: values follow from them, with their own factor."""
    shape = SHAPE.model_copy(update={"side": 2, "scales": ()})
    flow = quiet(ImageFlow(shape))
    count, most = 16, 4.5
    at = -most + 2 * most / count * (torch.arange(count) + 0.5)
    logits = torch.cartesian_prod(at, at, at, at).view(-1, 1, 2, 2)
    total = 0.0
    for part in logits.split(65536):
        given = from_logits(part, shape.alpha)
        spread = to_logits(given, shape.alpha)[1]  # log |d logits / d values|
        nats = flow.log_likelihood(given, one_hot(torch.ones(len(part), dtype=torch.int64), 3))
        total += (nats - spread).exp().sum().item() * (2 * most / count) ** 4
    assert total == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("coarse", [-2.9, 0.7])
def test_the_density_of_details_given_what_is_coarser_has_a_total_of_one(coarse: float) -> None:
    flow = quiet(DetailFlow(1, 3, SCALE))
    count, most = 40, 6.0
    at = -most + 2 * most / count * (torch.arange(count) + 0.5)
    details = torch.cartesian_prod(at, at, at).view(-1, 3, 1, 1)
    given = torch.full((len(details), 1, 1, 1), coarse)
    z, log_det = flow(details, given, one_hot(torch.ones(len(details), dtype=torch.int64), 3))
    total = (log_normal(z.flatten(1)) + log_det).exp().sum().item() * (2 * most / count) ** 3
    assert total == pytest.approx(1, abs=0.01)


def quiet(flow: ModuleT) -> ModuleT:
    """Weights that bend the density, but not so sharply that a coarse grid would miss it."""
    generator = torch.Generator().manual_seed(0)
    for parameter in flow.parameters():
        parameter.data = 0.15 * torch.randn(parameter.shape, generator=generator)
    return flow.eval().requires_grad_(False)


def test_uniform_pixels_would_take_eight_bits() -> None:
    """What a density over values in [0, 256) has to beat: the unit of bits per dimension is right."""
    _, log_det = to_logits(values(1, 8), 1e-6)
    logistic = -sum(_softplus_terms(to_logits(values(1, 8), 1e-6)[0]))
    bits = -(logistic + log_det.item()) / (64 * math.log(2))
    assert bits == pytest.approx(8, abs=0.01), "a standard logistic of the logits is uniform over the values"


def _softplus_terms(logits: Tensor) -> list[float]:
    both = torch.nn.functional.softplus(logits) + torch.nn.functional.softplus(-logits)
    return both.flatten().tolist()


def test_the_likelihood_over_all_classes_is_the_mean_of_theirs() -> None:
    nats = torch.tensor([[-1.0, -2.0, -700.0], [-800.0, -801.0, -802.0]], dtype=torch.float64)
    expected = math.log((math.exp(-1) + math.exp(-2)) / 3)
    assert over_classes(nats)[0].item() == pytest.approx(expected)
    assert over_classes(nats)[1].isfinite()


def test_details_are_split_by_checkerboard_and_by_kind_in_turn() -> None:
    kept = DetailFlow(2, 1, SCALE).kept
    assert kept[0, 0].tolist() == [[True, False], [False, True]]
    assert torch.equal(kept[1], ~kept[0])
    assert kept[2].flatten(1).all(dim=1).tolist() == [True, False, False]
    assert torch.equal(kept[3], ~kept[2])


def test_a_side_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be halved 3 times"):
        ImageFlowConfig.model_validate({**SHAPE.model_dump(), "side": 28, "scales": [SCALE.model_dump()] * 3})


def test_random_images_differ_in_likelihood() -> None:
    flow = make_flow()
    nats = flow.log_likelihood(some_images(4) + 0.5, one_hot(torch.tensor([0, 1, 2, 0]), 3))
    assert len({round(value, 2) for value in nats.tolist()}) == 4
