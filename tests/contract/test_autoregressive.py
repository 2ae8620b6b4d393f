"""The autoregressive family passes the contract suite: words that follow each other, and single sounds."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor

from services.families.autoregressive.model import WaveNet
from services.families.autoregressive.sampler import WaveSampler
from services.nn.audio import AudioChunk, Samples
from tests.contract.suite import ContractCase, SamplerContract
from tests.unit.autoregressive.tiny import make_model, params

# A code is the largest of noisy logits, so rounding changes one only where two are next to each other: none of these
# rows has such a place, in either precision.
ROWS = [
    params(1, 1),
    params(-7, 1, 0, 2, temperature=0.6),
    params(3, 2, frames=21),
    params(2**62, 1, 1, temperature=1.6, gap=0),
]


class BreaksOnce(WaveNet):
    """Raises once, after a whole batch of frames is drawn: their last frame's place is what it looks for."""

    def __init__(self, inner: WaveNet) -> None:
        super().__init__(inner.config)
        self.load_state_dict(inner.state_dict())
        self.to(inner.look.dtype).eval().requires_grad_(False)
        self.broken = False
        self.end.register_forward_hook(self._fail)

    def _fail(self, _module: object, inputs: tuple[Tensor], _output: Tensor) -> None:
        if not self.broken and len(inputs[0]) > 1:
            self.broken = True
            raise RuntimeError("injected fault")


@contextmanager
def broken_batch(sampler: WaveSampler) -> Generator[None]:
    kept, broken = sampler.model, BreaksOnce(sampler.model)
    sampler.model = broken
    yield
    assert broken.broken, "no step failed"
    sampler.model = kept


def joined(chunks: Sequence[AudioChunk]) -> Samples:
    assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    return np.concatenate([chunk.samples for chunk in chunks])


class TestWaves(SamplerContract):
    @pytest.fixture(scope="class", params=[torch.float64, torch.float32], ids=["float64", "float32"])
    @classmethod
    def case(cls, request: pytest.FixtureRequest) -> ContractCase[Samples]:
        model = make_model().to(request.param)
        return ContractCase(
            name=f"waves in {request.param}",
            make_sampler=lambda: WaveSampler(model, 8),
            params=ROWS,
            result=joined,
            live=lambda sampler: len(sampler.running),
            equal=np.array_equal,
            broken_batch=broken_batch,
        )
