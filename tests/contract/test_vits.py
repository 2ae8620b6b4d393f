"""The vits family passes the contract suite: rows in unlike sentences, at unlike speeds, share steps."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.families.vits.sampler import SpeechSampler
from services.nn.audio import AudioChunk, Samples
from tests.contract.suite import ContractCase, SamplerContract
from tests.unit.vits.tiny import make_sampler, params, write_voice

ROWS = [
    params(1, "hello there, you."),
    params(-7, "a.", "so it goes on, and on, and on for longer than a window has frames, does it not?"),
    params(3, "quick!", "brown", temperature=0.5, speed=2.0),
    params(2**62, "slow; and slower:", temperature=1.6, speed=0.5, silence=0),
]


class BreaksOnce:
    """A network that fails once, on the second row of a batch: the first one's work is done by then."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.calls = inner, 0

    def __getattr__(self, name: str) -> Any:
        self.calls += 1
        if self.calls == 2:
            raise RuntimeError("injected fault")
        return getattr(self.inner, name)


@contextmanager
def broken_batch(sampler: SpeechSampler) -> Generator[None]:
    kept, broken = sampler.network, BreaksOnce(sampler.network)
    sampler.network = broken  # type: ignore[assignment]
    yield
    assert broken.calls >= 2, "no step failed"
    sampler.network = kept


def joined(chunks: Sequence[AudioChunk]) -> Samples:
    assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    return np.concatenate([chunk.samples for chunk in chunks])


class TestVoices(SamplerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def case(cls, tmp_path_factory: pytest.TempPathFactory) -> ContractCase[Samples]:
        path: Path = write_voice(tmp_path_factory.mktemp("voice"))
        return ContractCase(
            name="a voice",
            make_sampler=lambda: make_sampler(path),
            params=ROWS,
            result=joined,
            live=lambda sampler: len(sampler.running),
            equal=np.array_equal,
            broken_batch=broken_batch,
        )
