"""Forecasts of the recurrent family pass the contract suite: series of unlike lengths, seasons, paths and horizons."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from services.families.recurrent.forecasts.model import Told
from services.families.recurrent.forecasts.sampler import PIECE, ForecastChunk, ForecastSampler
from tests.contract.suite import ContractCase, SamplerContract
from tests.unit.recurrent.forecasts.tiny import make_forecaster, params_of, wave

# Of values, as a share: rounding goes on from each value to the next.
SHARE = {torch.float64: 1e-9, torch.float32: 2e-3}
NOISE = np.random.default_rng(0).normal(size=2 * PIECE + 30).tolist()
ROWS = [
    params_of(wave(30), steps=range(1, 19), samples=5),
    params_of(NOISE, season=1, steps=(2, 9, 20), samples=8, seed=2),
    params_of(wave(9, 4), season=4, steps=(1,), samples=3, seed=2**62),
    params_of(NOISE[:PIECE], season=24, steps=range(1, 25), samples=1, seed=-5),
]


@contextmanager
def broken_batch(sampler: ForecastSampler) -> Generator[None]:
    """The network raises once, after it has computed a step of two rows' paths."""
    broken = False

    def fault(module: nn.Module, inputs: object, output: tuple[Told, object]) -> None:
        nonlocal broken
        if not broken and len(sampler.rows) > 1:
            broken = True
            raise RuntimeError("injected fault")

    handle = sampler.model.lstm.register_forward_hook(fault)
    yield
    handle.remove()
    assert broken, "no step failed"


def numbers(chunks: Sequence[ForecastChunk]) -> list[float]:
    (chunk,) = chunks
    return [*chunk.mean, *(value for line in chunk.quantiles for value in line)]


@pytest.fixture(scope="module", params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


class TestForecasts(SamplerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def case(cls, dtype: torch.dtype) -> ContractCase[list[float]]:
        model = make_forecaster().to(dtype)
        return ContractCase(
            name=f"forecasts in {dtype}",
            make_sampler=lambda: ForecastSampler(model, 8, 2**20),
            params=ROWS,
            result=numbers,
            live=lambda sampler: len(sampler.rows),
            equal=lambda a, b: a == pytest.approx(b, rel=SHARE[dtype], abs=SHARE[dtype]),
            broken_batch=broken_batch,
        )
