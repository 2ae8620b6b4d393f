"""The ebm family passes the contract suite: chains of different lengths, tasks and temperatures; energies."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor

from services.families.ebm.langevin import annealed
from services.families.ebm.model import ANY_CLASS, EnergyNet
from services.families.ebm.params import ChainParams, ScoreParams
from services.families.ebm.sampler import EbmSampler
from services.families.ebm.scoring import ScoreChunk
from services.nn.canvas import Drawing
from services.nn.images import ImageChunk, Pixels, Writing, preview_steps
from tests.contract.suite import ContractCase, SamplerContract
from tests.unit.ebm.tiny import SHAPE, make_net, pixels_of

# Levels of 255 by which rounding may move a pixel, and the share by which it may move an energy.
LEVELS = {torch.float64: 0, torch.float32: 1}
SHARES = {torch.float64: 1e-12, torch.float32: 1e-5}


def chain(
    seed: int,
    steps: int,
    *,
    label: int = 0,
    temperature: float = 1.0,
    previews: int = 0,
    taken: int | None = None,
    source: Tensor | None = None,
) -> ChainParams:
    whole = annealed(steps, rate=SHAPE.rate, high=SHAPE.high, low=SHAPE.low, taken=taken)
    count = len(whole.sweeps)
    drawing = Drawing(seed, 0, Writing("png", 90), 1, steps=count, previews=preview_steps(previews, count))
    task = "image" if source is None else "variation"
    return ChainParams(task, label, whole, temperature, drawing, source)


CHAINS = [
    chain(1, 14, previews=3),
    chain(-7, 9, label=1, temperature=0.5),
    chain(2**62, 2, label=2),
    chain(1, 20, label=ANY_CLASS, taken=12, source=pixels_of(1)),
    chain(3, 20, label=1, taken=1, source=pixels_of(2)),
    chain(4, 1, temperature=2.0),
]
SCORES = [ScoreParams(pixels_of(seed), label) for seed, label in ((1, 0), (2, 2), (3, ANY_CLASS), (1, ANY_CLASS))]


class BreaksOnce(EnergyNet):
    """Raises once, in the middle of a step: after the energies of its third sweep, or of its only pass."""

    def __init__(self, inner: EnergyNet, call: int) -> None:
        super().__init__(inner.config)
        self.load_state_dict(inner.state_dict())
        self.to(next(inner.parameters()).dtype).requires_grad_(False)
        self.left = call

    def forward(self, images: Tensor) -> Tensor:
        energies = super().forward(images)
        if len(images) > 1:
            self.left -= 1
            if self.left == 0:
                raise RuntimeError("injected fault")
        return energies


@contextmanager
def broken_chains(sampler: EbmSampler) -> Generator[None]:
    kept, broken = sampler.net, BreaksOnce(sampler.net, 3)
    sampler.net = broken
    yield
    assert broken.left <= 0, "no step failed"
    sampler.net = kept


@contextmanager
def broken_scores(sampler: EbmSampler) -> Generator[None]:
    kept, broken = sampler.score.net, BreaksOnce(sampler.score.net, 1)
    sampler.score.net = broken
    yield
    assert broken.left <= 0, "no step failed"
    sampler.score.net = kept


def only_image(chunks: Sequence[ImageChunk]) -> Pixels:
    (chunk,) = chunks
    assert not chunk.is_preview
    return chunk.pixels


def only_energy(chunks: Sequence[ScoreChunk]) -> float:
    (chunk,) = chunks
    return chunk.energy


@pytest.fixture(scope="module", params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


class TestChains(SamplerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def case(cls, dtype: torch.dtype) -> ContractCase[Pixels]:
        net = make_net().to(dtype)
        return ContractCase(
            name=f"chains in {dtype}",
            make_sampler=lambda: EbmSampler(net, max_batch_size=8, sweeps_per_step=4),
            params=CHAINS,
            result=only_image,
            live=lambda sampler: len(sampler.rows),
            equal=lambda a, b: bool((np.abs(a.astype(int) - b.astype(int)) <= LEVELS[dtype]).all()),
            broken_batch=broken_chains,
        )


class TestScores(SamplerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def case(cls, dtype: torch.dtype) -> ContractCase[float]:
        net = make_net().to(dtype)
        return ContractCase(
            name=f"energies in {dtype}",
            make_sampler=lambda: EbmSampler(net, max_batch_size=8, sweeps_per_step=4),
            params=SCORES,
            result=only_energy,
            live=lambda sampler: len(sampler.rows),
            equal=lambda a, b: abs(a - b) <= SHARES[dtype] * abs(a),
            broken_batch=broken_scores,
            one_shot=True,
        )
