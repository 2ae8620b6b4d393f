"""Molecules pass the contract suite: scaffolds, attempts that begin anew and scores, in one batch."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from torch import Tensor

from services.families import LoadedModel
from services.families.recurrent.family import load
from services.families.recurrent.model import RecurrentLM
from services.families.recurrent.molecules.params import MoleculeChunk
from services.families.recurrent.molecules.sampler import AnyParams, MoleculeSampler
from services.families.recurrent.sampler import RecurrentSampler
from services.nn.text.params import TextChunk
from shared.schemas.molecules import MoleculeGenerationRequest
from shared.schemas.scores import ScoreRequest
from tests.contract.suite import ContractCase, SamplerContract
from tests.unit.recurrent.molecules.tiny import make_config, make_folder

ANEW = {"seed": 1, "n": 6, "valid_only": True, "attempts": 5}


def mixed_rows(loaded: LoadedModel) -> list[AnyParams]:
    draw, score = loaded.tasks["molecule"], loaded.tasks["score"]
    requests: list[dict[str, Any]] = [ANEW, {"seed": 3, "scaffold": "CC(=O)", "temperature": 0.6}, {"temperature": 0}]
    rows = [row for fields in requests for row in draw.prepare(MoleculeGenerationRequest(model="m", **fields))]
    return [*rows, *score.prepare(ScoreRequest(model="m", input=["CC(=O)Cl", "CCCCCCCC"]))]


def result(chunks: Sequence[MoleculeChunk | TextChunk]) -> tuple[str, int]:
    """A SMILES and its attempts; of a score the tokens that have a log-probability."""
    (chunk,) = chunks
    if isinstance(chunk, MoleculeChunk):
        return chunk.smiles, chunk.attempts
    return "".join(str(each.token) for each in chunk.logprobs or ()), len(chunk.logprobs or ())


def live(sampler: MoleculeSampler) -> int:
    assert isinstance(sampler.inner, RecurrentSampler)
    return len(sampler.inner.rows)


class BreaksOnce(RecurrentLM):
    """Raises once, after the next token of several rows is computed."""

    def __init__(self, inner: RecurrentLM) -> None:
        super().__init__(inner.config)
        self.load_state_dict(inner.state_dict())
        self.requires_grad_(False)
        self.broken = False

    def advance(self, ids: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        after = super().advance(ids, state)
        if not self.broken and len(ids) > 1:
            self.broken = True
            raise RuntimeError("injected fault")
        return after


@contextmanager
def broken_batch(sampler: MoleculeSampler) -> Generator[None]:
    inner = sampler.inner
    assert isinstance(inner, RecurrentSampler)
    kept, breaking = inner.model, BreaksOnce(inner.model)
    inner.model = breaking
    yield
    assert breaking.broken, "no step failed"
    inner.model = kept


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ContractCase[Any]:
    folder = make_folder(tmp_path_factory.mktemp("molecules"))
    config = make_config(folder, max_batch_size=10)
    rows = mixed_rows(load(config, folder))
    return ContractCase(
        name="molecules",
        make_sampler=lambda: load(config, folder).sampler,
        params=rows,
        result=result,
        live=live,
        broken_batch=broken_batch,
    )


class TestMolecules(SamplerContract):
    def test_some_rows_take_more_than_one_attempt(self, alone: list[Any]) -> None:
        assert {attempts for _, attempts in alone[: ANEW["n"]]} > {1}
