"""The transformer family passes the contract suite: greedy, sampled, penalised and stopped rows in one batch.

With an adapter, too: its rows are steps of its base's sampler.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from torch import Tensor

from services.families.transformer.family import load
from services.families.transformer.forward import SlotForward, Span
from services.families.transformer.sampler import TransformerSampler
from services.nn.text.params import GenerateParams, SamplingOptions, TextChunk
from services.nn.text.tasks import CompletionTask
from shared.config.transformer import AdapterModel, TransformerModel
from tests.adapters import make_adapter
from tests.checkpoints import make_checkpoint
from tests.contract.suite import ContractCase, SamplerContract
from tests.unit.transformer.driver import load_folder, random_prompts

OPTIONS = [
    SamplingOptions(temperature=0),
    SamplingOptions(temperature=1.2),
    SamplingOptions(temperature=0.9, top_k=50, top_p=0.9, min_p=0.01),
    SamplingOptions(temperature=1.0, repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.5),
]


def mixed_rows() -> list[GenerateParams]:
    prompts = random_prompts(6, longest=90, seed=4)
    return [
        GenerateParams(
            "completion",
            tuple(prompt),
            max_new_tokens=6 + 5 * i,
            seed=i,
            sampling=OPTIONS[i % len(OPTIONS)],
            stops=("qz",) if i == 4 else (),
            ignore_eos=i % 2 == 0,
            logprobs=2 if i == 3 else None,
            echo="prompt: " if i in (3, 5) else None,
        )
        for i, prompt in enumerate(prompts)
    ]


class BreaksOnce(SlotForward):
    """Raises once, after the rows that decode and the piece of a prompt are computed, cache writes included."""

    def __init__(self, inner: SlotForward) -> None:
        self.inner, self.broken = inner, False
        self.flat = inner.flat

    def logits(self, decoding: Sequence[Span], reading: Sequence[Span] = ()) -> Tensor:
        logits = self.inner.logits(decoding, reading)
        if not self.broken and any(len(span.tokens) > 1 for span in reading):
            self.broken = True
            raise RuntimeError("injected fault")
        return logits


@contextmanager
def broken_batch(sampler: TransformerSampler) -> Generator[None]:
    kept, sampler.forward = sampler.forward, BreaksOnce(sampler.forward)
    yield
    assert sampler.forward.broken, "no step failed"
    sampler.forward = kept


def answer(chunks: Sequence[TextChunk]) -> tuple[str, int, list[int]]:
    """Text, tokens made, and the ids of the log-probabilities."""
    ids = [raw.token for chunk in chunks for raw in chunk.logprobs or ()]
    return "".join(chunk.text for chunk in chunks), chunks[-1].completion_tokens, ids


def fresh_sampler(folder: Path) -> TransformerSampler:
    return load_folder(folder).sampler


def with_adapter(
    base: Path, folder: Path, rows: Sequence[GenerateParams]
) -> tuple[Callable[[], TransformerSampler], list[GenerateParams]]:
    """The same sampler each time, since adapters are of one loaded base; and the rows with the adapter."""
    loaded = load(TransformerModel(id="base", source=f"file://{base}", prefill_tokens=16, cache_memory=2**26), base)
    assert loaded.adapt is not None
    tasks = loaded.adapt(AdapterModel(id="a", base="base", adapter=f"file://{folder}"), folder).tasks
    adapter = cast(CompletionTask, tasks["completion"]).generation.adapter
    sampler = cast(TransformerSampler, loaded.sampler)
    return lambda: sampler, [replace(row, adapter=adapter) for row in rows]


@pytest.fixture(scope="module", params=["gpt2", "llama", "adapted"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ContractCase[object]:
    whole = make_checkpoint("llama" if request.param == "adapted" else request.param, tmp_path_factory.mktemp("whole"))
    sampler, params = partial(fresh_sampler, whole), mixed_rows()
    if request.param == "adapted":
        folder = make_adapter(whole, tmp_path_factory.mktemp("adapter"), target_modules="all-linear")
        sampler, params = with_adapter(whole, folder, params)
    return ContractCase(
        name=request.param,
        make_sampler=sampler,
        params=params,
        result=answer,
        live=lambda sampler: len(sampler.table),
        broken_batch=broken_batch,
    )


class TestTransformer(SamplerContract):
    pass
