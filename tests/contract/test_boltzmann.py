"""The boltzmann family passes the contract suite: chains of all kinds in one batch, and readings in one pass.

All of it is in float32, in which a chain's sums are exact: rows must be equal to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from services.families.boltzmann.model import MachineConfig
from services.families.boltzmann.params import (
    ChainParams,
    EmbeddingParams,
    Features,
    Origin,
    ReconstructionParams,
    Restoration,
    Restored,
    RowParams,
    ScoreParams,
)
from services.families.boltzmann.passes import EmbeddingPass, ReconstructionPass
from services.families.boltzmann.reading import Reader
from services.families.boltzmann.sampler import BoltzmannSampler
from services.families.boltzmann.scores import ScorePass, measures_of
from services.nn.canvas import Drawing
from services.nn.images import ImageChunk, Pixels, Writing
from shared.schemas.scores import Metric, Score
from tests.contract.suite import ContractCase, SamplerContract
from tests.unit.boltzmann.tiny import CLASSES, make_machine

SHAPES = {
    "rbm": MachineConfig(classes=CLASSES, side=8, hidden=24),
    "dbm": MachineConfig(classes=CLASSES, side=8, hidden=24, top=10),
}
READING_TOLERANCE = 1e-9  # of values, in float64: a mate moves a mean-field product by rounding
PNG = Writing("png", 90)


def make_sampler(shape: MachineConfig) -> BoltzmannSampler:
    machine = make_machine(shape, spread=0.4)
    reader = Reader(machine)
    passes = {
        "reconstruction": ReconstructionPass(reader),
        "embedding": EmbeddingPass(reader),
        "score": ScorePass(reader, measures_of(shape), {}),
    }
    return BoltzmannSampler(machine, reader, passes, max_batch_size=16)


def image(number: int) -> torch.Tensor:
    """bool (64,)."""
    return torch.rand(64, generator=torch.Generator().manual_seed(number)) < 0.4


def restoration(number: int, seed: int | None = None) -> Restoration:
    return Restoration(image(number).view(8, 8).numpy(), PNG, seed)


def chain(seed: int, sweeps: int, label: int | None, **fields: Any) -> ChainParams:
    drawing = Drawing(seed, label or 0, PNG, 1, sweeps, fields.get("previews", frozenset[int]()))
    return ChainParams("image", seed, label, sweeps, fields.pop("temperature", 1.0), drawing, **fields)


CHAINS: list[RowParams] = [
    chain(1, 47, 0, previews=frozenset({5, 23})),
    chain(-7, 33, 1, temperature=0.6),
    chain(2**62, 7, 2),
    chain(1, 30, 0, origin=Origin(image(1), torch.arange(64) < 30)),
    chain(5, 21, None, origin=Origin(image(2)), temperature=1.4),
    ChainParams("reconstruction", 3, None, 25, 1.0, restoration(3, 3), Origin(image(3))),
]


def score_row(number: int, metric: Metric, label: int | None) -> ScoreParams:
    return ScoreParams(image(number), metric, label, 20, number, 1.0)


def readings(task: str, kind: str) -> list[RowParams]:
    if task == "reconstruction":
        return [ReconstructionParams(image(i), restoration(i)) for i in range(4)]
    if task == "embedding":
        return [EmbeddingParams(image(i), size, "float") for i, size in enumerate((24, 3, 10))]
    metrics: list[Metric] = ["elbo"] if kind == "dbm" else ["free_energy", "log_likelihood", "pseudo_log_likelihood"]
    return [score_row(i, metrics[i % len(metrics)], label) for i, label in enumerate((None, 1, None, 2, 0, None))]


class BreaksOnce:
    """Stands for a function that raises once, after it has computed a batch of two rows or more."""

    def __init__(self, inner: Callable[..., Any]) -> None:
        self.inner, self.broken = inner, False

    def __call__(self, rows: Sequence[Any]) -> Any:
        found = self.inner(rows)
        if not self.broken and len(rows) > 1:
            self.broken = True
            raise RuntimeError("injected fault")
        return found


@contextmanager
def broken_sweeps(sampler: Any) -> Generator[None]:
    """The sweeps of the whole batch are made, from generators that have gone on, when the step raises."""
    sampler._sweep = broken = BreaksOnce(sampler._sweep)
    yield
    assert broken.broken, "no step failed"
    del sampler._sweep


@contextmanager
def broken_pass(sampler: BoltzmannSampler) -> Generator[None]:
    kept = dict(sampler.passes)
    broken = {task: BreaksOnce(run) for task, run in kept.items()}
    sampler.passes = broken
    yield
    assert any(each.broken for each in broken.values()), "no step failed"
    sampler.passes = kept


def only_pixels(chunks: Sequence[ImageChunk | Restored]) -> Pixels:
    (chunk,) = chunks
    return chunk.pixels


def values_of(chunks: Sequence[Any]) -> list[float]:
    (chunk,) = chunks
    if isinstance(chunk, Score):
        return [chunk.value, chunk.standard_error or 0.0]
    if isinstance(chunk, Features):
        return chunk.values.tolist()
    assert isinstance(chunk, Restored)
    return [chunk.error, *chunk.pixels.flatten().tolist()]


def near(a: list[float], b: list[float]) -> bool:
    return len(a) == len(b) and all(math.isclose(x, y, rel_tol=READING_TOLERANCE) for x, y in zip(a, b, strict=True))


class TestChains(SamplerContract):
    @pytest.fixture(scope="class", params=SHAPES)
    @classmethod
    def case(cls, request: pytest.FixtureRequest) -> ContractCase[Pixels]:
        return ContractCase(
            name=f"chains of a {request.param}",
            make_sampler=lambda: make_sampler(SHAPES[request.param]),
            params=CHAINS,
            result=only_pixels,
            live=lambda sampler: len(sampler.rows),
            equal=np.array_equal,
            broken_batch=broken_sweeps,
        )


class TestReadings(SamplerContract):
    @pytest.fixture(
        scope="class", params=[(task, kind) for task in ("reconstruction", "embedding", "score") for kind in SHAPES]
    )
    @classmethod
    def case(cls, request: pytest.FixtureRequest) -> ContractCase[list[float]]:
        task, kind = request.param
        return ContractCase(
            name=f"{task} by a {kind}",
            make_sampler=lambda: make_sampler(SHAPES[kind]),
            params=readings(task, kind),
            result=values_of,
            live=lambda sampler: len(sampler.rows),
            equal=near,
            broken_batch=broken_pass,
            one_shot=True,
        )
