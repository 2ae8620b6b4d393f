"""The recurrent family passes the contract suite: greedy, sampled, penalised and stopped rows of each cell together."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import pytest
from torch import Tensor

from services.families.recurrent.family import load
from services.families.recurrent.model import RecurrentLM
from services.families.recurrent.sampler import PIECE, RecurrentSampler
from services.nn.text.params import GenerateParams, SamplingOptions, TextChunk
from tests.contract.suite import ContractCase, SamplerContract
from tests.unit.recurrent.tiny import CELLS, text_config, tiny_folder

OPTIONS = [
    SamplingOptions(temperature=0),
    SamplingOptions(temperature=1.2),
    SamplingOptions(temperature=0.9, top_k=50, top_p=0.9, min_p=0.01),
    SamplingOptions(temperature=1.0, repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.5),
]


def mixed_rows() -> list[GenerateParams]:
    """Prompts of a single token, of less than a piece, of a whole one and of several."""
    lengths = (1, 7, PIECE, PIECE + 1, 3 * PIECE - 5, 2)
    return [
        GenerateParams(
            "completion",
            tuple((7 * i + 13 * j) % 250 + 2 for j in range(length)),
            max_new_tokens=6 + 5 * i,
            seed=i,
            sampling=OPTIONS[i % len(OPTIONS)],
            stops=("qz",) if i == 4 else (),
            ignore_eos=i % 2 == 0,
            logprobs=2 if i == 3 else None,
            echo="prompt: " if i in (3, 5) else None,
            whole=i == 1,
        )
        for i, length in enumerate(lengths)
    ]


class BreaksOnce(RecurrentLM):
    """Raises once, after the rows that decode and the pieces of prompts are computed."""

    def __init__(self, inner: RecurrentLM) -> None:
        super().__init__(inner.config)
        self.load_state_dict(inner.state_dict())
        self.broken = False

    def read(self, pieces: Sequence[Sequence[int]], state: Tensor) -> tuple[list[Tensor], Tensor]:
        read = super().read(pieces, state)
        if not self.broken:
            self.broken = True
            raise RuntimeError("injected fault")
        return read


@contextmanager
def broken_batch(sampler: RecurrentSampler) -> Generator[None]:
    kept = sampler.model
    sampler.model = breaking = BreaksOnce(kept)
    sampler.model.requires_grad_(False)
    yield
    assert breaking.broken, "no step failed"
    sampler.model = kept


def answer(chunks: Sequence[TextChunk]) -> tuple[str, int, list[int]]:
    """Text, tokens made, and the ids of the log-probabilities."""
    ids = [raw.token for chunk in chunks for raw in chunk.logprobs or ()]
    return "".join(chunk.text for chunk in chunks), chunks[-1].completion_tokens, ids


@pytest.fixture(scope="module", params=CELLS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ContractCase[object]:
    folder = tiny_folder(request.param, tmp_path_factory.mktemp(request.param))
    return ContractCase(
        name=request.param,
        # Two pieces a step: prompts wait for their turns.
        make_sampler=lambda: load(text_config(folder, prefill_tokens=2 * PIECE, max_batch_size=8), folder).sampler,
        params=mixed_rows(),
        result=answer,
        live=lambda sampler: len(sampler.rows),
        broken_batch=broken_batch,
    )


class TestRecurrent(SamplerContract):
    pass
