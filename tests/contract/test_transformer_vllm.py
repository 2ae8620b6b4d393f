"""Rows that vLLM runs pass the contract suite, with an engine that makes their tokens in vLLM's place."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from services.families.transformer.vllm.family import assemble
from services.families.transformer.vllm.sampler import VllmSampler
from services.nn.text.detokenizer import TextState
from services.nn.text.params import GenerateParams, RawLogprob
from services.nn.text.rows import RowText, Spoken, TextRow
from shared.config.transformer import VllmModel
from tests.checkpoints import make_checkpoint
from tests.contract.suite import ContractCase, SamplerContract
from tests.contract.test_transformer import answer, mixed_rows
from tests.unit.transformer.vllm.fake import FakeVllm


class BreaksOnce(RowText):
    """Raises once, at the second row of a step."""

    def __init__(self, inner: RowText) -> None:
        self.inner, self.spoke, self.broken = inner, 0, False

    def start(self, params: GenerateParams) -> TextState:
        return self.inner.start(params)

    def speak(self, row: TextRow, token: int, logprob: RawLogprob | None, prompt: Sequence[RawLogprob]) -> Spoken:
        self.spoke += 1
        if self.spoke == 2:
            self.broken = True
            raise RuntimeError("injected fault")
        return self.inner.speak(row, token, logprob, prompt)


@contextmanager
def broken_batch(sampler: Any) -> Generator[None]:
    kept = sampler._text
    sampler._text = BreaksOnce(kept)
    yield
    assert sampler._text.broken, "no step failed"
    sampler._text = kept


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ContractCase[Any]:
    folder = make_checkpoint("llama", tmp_path_factory.mktemp("llama"))
    config = VllmModel.model_validate(
        {"id": "tiny", "source": f"file://{folder}", "engine": "vllm", "max_batch_size": 8}
    )

    def make_sampler() -> VllmSampler:
        return assemble(config, Path(folder), FakeVllm(piece=2).start).sampler  # pyright: ignore

    def live(sampler: Any) -> int:
        return len(sampler._engine.rows) + sampler._running

    return ContractCase(
        name="vllm",
        make_sampler=make_sampler,
        params=mixed_rows(),
        result=answer,
        live=live,
        broken_batch=broken_batch,
    )


class TestVllm(SamplerContract):
    pass
