"""The rule of a sweep: it draws from the density whose energy it is given, as nearly as its length allows."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from services.engine.contract import Preview
from services.families.ebm.langevin import Sweep, annealed, between, held
from services.families.ebm.model import ANY_CLASS
from services.families.ebm.params import ChainParams
from services.families.ebm.sampler import ChainRow, EbmSampler
from services.nn.canvas import Drawing
from services.nn.images import Writing
from tests.unit.ebm.tiny import SHAPE, make_bowl

LEVEL, MEAN = 0.3, 1.7


def walk(sweep: Sweep, variance: float, sweeps: int, chains: int = 10_000) -> Tensor:
    """Many chains in E(x) = (x - MEAN)^2 / (2 variance), from far away."""
    draws = torch.Generator().manual_seed(0)
    x = torch.full((chains,), -5.0, dtype=torch.float64)
    for _ in range(sweeps):
        residual = LEVEL**2 * (x - MEAN) / variance
        x = x - sweep.rate * residual + sweep.noise * torch.randn(chains, dtype=torch.float64, generator=draws)
    return x


@pytest.mark.parametrize("rate", [0.5, 0.2, 0.05])
@pytest.mark.parametrize("variance", [0.05, LEVEL**2, 0.3])
def test_a_chain_in_a_quadratic_energy_reaches_its_gaussian_with_the_known_error(rate: float, variance: float) -> None:
    sweeps = math.ceil(8 * variance / (rate * LEVEL**2))  # what is left of the start: e^-8
    x = walk(held(rate, LEVEL), variance, sweeps)
    expected = variance * (2 - rate) / (2 - rate * LEVEL**2 / variance)
    assert x.mean().item() == pytest.approx(MEAN, abs=4 * math.sqrt(expected / len(x)))
    assert x.var().item() == pytest.approx(expected, rel=4 * math.sqrt(2 / len(x)))


def test_the_error_of_the_variance_vanishes_with_the_rate() -> None:
    variance = 0.05
    errors = [variance * (2 - rate) / (2 - rate * LEVEL**2 / variance) / variance - 1 for rate in (0.4, 0.1, 0.01)]
    assert errors[0] > errors[1] > errors[2] > 0
    assert errors[2] < 0.01


@pytest.mark.parametrize("rate", [0.1, 0.01, 0.001])
def test_a_sweep_is_langevin_s_to_first_order(rate: float) -> None:
    """h = 2 rate level^2: the drift is (h / 2) dE/dx, the noise sqrt(h)."""
    assert held(rate, LEVEL).noise == pytest.approx(math.sqrt(2 * rate) * LEVEL, rel=rate)


def test_noise_follows_the_levels_where_the_clean_image_is_known() -> None:
    """With r(x) = x - clean, a sample's noise is that of its level after every sweep."""
    chain = annealed(10, rate=0.3, high=2.0, low=0.1)
    draws = torch.Generator().manual_seed(0)
    x = chain.start * torch.randn(40_000, generator=draws)
    assert chain.start == 2.0
    for i, sweep in enumerate(chain.sweeps[:-1]):
        x = x - sweep.rate * x + sweep.noise * torch.randn(len(x), generator=draws)
        assert x.std().item() == pytest.approx(2.0 * 0.05 ** ((i + 1) / 9), rel=0.02)
    assert chain.sweeps[-1] == Sweep(1.0, 0.0)


def test_levels_that_fall_faster_than_the_rate_draw_no_noise() -> None:
    assert between(0.2, 1.0, 0.5) == Sweep(0.5, 0.0)
    assert between(0.2, 1.0, 0.9).noise > 0
    assert annealed(1, rate=0.2, high=2.0, low=0.1).sweeps == (Sweep(1.0, 0.0),)


def test_a_part_of_a_chain_is_its_end() -> None:
    whole = annealed(8, rate=0.3, high=2.0, low=0.1)
    part = annealed(8, rate=0.3, high=2.0, low=0.1, taken=3)
    assert part.sweeps == whole.sweeps[-3:]
    assert part.start == pytest.approx(2.0 * 0.05 ** (5 / 7))
    starts = [annealed(8, rate=0.3, high=2.0, low=0.1, taken=taken).start for taken in range(8, 0, -1)]
    assert all(a > b for a, b in pairwise(starts))
    assert starts[-1] == pytest.approx(0.1)


@pytest.mark.parametrize("temperature", [0.25, 1.0])
def test_served_chains_reach_a_gaussian_energy_s_mean_and_its_variance_times_the_temperature(
    temperature: float,
) -> None:
    """Through the sampler itself: an energy without a tilt is a Gaussian of deviation `low` about the centre."""
    net = make_bowl(centre=-0.4)
    sampler = EbmSampler(net, max_batch_size=32, sweeps_per_step=15)
    chain = annealed(1, rate=SHAPE.rate, high=SHAPE.high, low=SHAPE.low)
    held_chain = type(chain)(SHAPE.high, (held(SHAPE.rate, SHAPE.low),) * 30)
    params = [
        ChainParams("image", ANY_CLASS, held_chain, temperature, Drawing(seed, 0, Writing("png", 90), 1, steps=30))
        for seed in range(32)
    ]
    rows = [sampler.start(each) for each in params]
    sampler.step(rows)
    outputs = sampler.step(rows)
    assert not any(isinstance(output.chunk, Preview) for output in outputs)
    samples = torch.stack([row.x for row in rows if isinstance(row, ChainRow)]).flatten()
    assert samples.mean().item() == pytest.approx(-0.4, abs=0.01)
    assert samples.std().item() == pytest.approx(SHAPE.low * math.sqrt(temperature), rel=0.03)
