"""The neural_ode family passes the contract suite: images, frames, scores and forecasts of unlike lengths."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from services.families.neural_ode.images.params import ImageParams, Point, ScoreParams
from services.families.neural_ode.images.sampler import FlowSampler, ScoreChunk
from services.families.neural_ode.series.params import ForecastParams, Grid
from services.families.neural_ode.series.sampler import ForecastChunk, SeriesSampler
from services.families.neural_ode.series.scaling import scale_series
from services.families.neural_ode.solvers import METHODS
from services.nn.canvas import Drawing
from services.nn.images import ImageChunk, Pixels, Writing
from tests.contract.suite import ContractCase, SamplerContract
from tests.unit.neural_ode.tiny import make_flow, make_images, make_latent_ode

# Levels of 255: in float32 another order of summation, carried on by every step, can cross a border of one.
LEVELS = {torch.float64: 0, torch.float32: 1}
# Of nats and of values, as a share; an error bar is a difference of nats that may be a thousand times as large.
SHARE = {torch.float64: 1e-11, torch.float32: 1e-4}


def image(start: Point, end: Point | None = None, *, steps: int, position: float = 0.0, **options: Any) -> ImageParams:
    drawing = Drawing(start.seed, start.label, Writing("png", 90), 1, steps=steps, **options)
    return ImageParams("image", start, end or start, position, 0.9, 2, drawing)


def score(label: int | None, *, samples: int, steps: int, seed: int = 1) -> ScoreParams:
    return ScoreParams(make_images(1)[seed % 3][0], label, samples, seed, steps, evaluations=2)


def forecast(targets: list[float], *, seed: int, samples: int, count: int) -> ForecastParams:
    draws = np.random.default_rng(seed)
    times = np.cumsum(draws.uniform(0.2, 2.0, count)).tolist()
    series = scale_series(times, draws.normal(size=count).tolist())
    at = tuple(series.last + series.gap * target for target in targets)
    return ForecastParams(series, at, Grid.of(targets, 0.5), (0.1, 0.5, 0.9), samples, seed)


IMAGES = [
    image(Point(1, 0), steps=4, previews=frozenset({2})),
    image(Point(-7, 1), steps=7),
    image(Point(2**62, 2), steps=1),
    image(Point(1, 0), Point(5, 2), steps=3, position=0.25),
]
SCORES = [
    score(None, samples=2, steps=4),
    score(1, samples=1, steps=3, seed=2),
    score(None, samples=3, steps=6, seed=3),
]
FORECASTS = [
    forecast([0.5, 3.0, 14.0], seed=1, samples=7, count=9),
    forecast([1.0], seed=2, samples=12, count=30),
    forecast([2.5, 2.6, 9.9, 20.0], seed=3, samples=3, count=5),
]


@contextmanager
def broken_batch(sampler: FlowSampler | SeriesSampler) -> Generator[None]:
    """The field raises once, after it has computed two paths or more."""
    broken = False

    def fault(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal broken
        if not broken and len(output) > 1:
            broken = True
            raise RuntimeError("injected fault")

    handle = sampler.model.register_forward_hook(fault)
    yield
    handle.remove()
    assert broken, "no step failed"


def only(chunks: Sequence[Any]) -> Any:
    (chunk,) = chunks
    return chunk


def pixels(chunks: Sequence[ImageChunk]) -> Pixels:
    return only(chunks).pixels


def nats(chunks: Sequence[ScoreChunk]) -> list[float]:
    chunk = only(chunks)
    return [chunk.value] if chunk.standard_error is None else [chunk.value, chunk.standard_error]


def numbers(chunks: Sequence[ForecastChunk]) -> list[float]:
    chunk = only(chunks)
    return [*chunk.mean, *(value for line in chunk.quantiles for value in line)]


@pytest.fixture(scope="module", params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


class TestImages(SamplerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def case(cls, dtype: torch.dtype) -> ContractCase[Pixels]:
        model = make_flow().to(dtype)
        return ContractCase(
            name=f"images in {dtype}",
            make_sampler=lambda: FlowSampler(model, METHODS["midpoint"], 8),
            params=IMAGES,
            result=pixels,
            live=lambda sampler: len(sampler.rows),
            equal=lambda a, b: bool((np.abs(a.astype(int) - b.astype(int)) <= LEVELS[dtype]).all()),
            broken_batch=broken_batch,
        )


class TestScores(SamplerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def case(cls, dtype: torch.dtype) -> ContractCase[list[float]]:
        model = make_flow().to(dtype)
        return ContractCase(
            name=f"scores in {dtype}",
            make_sampler=lambda: FlowSampler(model, METHODS["midpoint"], 8),
            params=SCORES,
            result=nats,
            live=lambda sampler: len(sampler.rows),
            equal=lambda a, b: a == pytest.approx(b, rel=SHARE[dtype], abs=1e3 * SHARE[dtype]),
            broken_batch=broken_batch,
        )


class TestForecasts(SamplerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def case(cls, dtype: torch.dtype) -> ContractCase[list[float]]:
        model = make_latent_ode().to(dtype)
        return ContractCase(
            name=f"forecasts in {dtype}",
            make_sampler=lambda: SeriesSampler(model, 8, 2**20),
            params=FORECASTS,
            result=numbers,
            live=lambda sampler: len(sampler.rows),
            equal=lambda a, b: a == pytest.approx(b, rel=SHARE[dtype], abs=SHARE[dtype]),
            broken_batch=broken_batch,
        )
