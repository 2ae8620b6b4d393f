"""Transformers of other shapes pass the contract suite: targets of sources, vectors of texts, masks filled in."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from services.families.transformer.encoder.params import Embedded, EmbedParams, Filled, FillParams
from services.families.transformer.encoder_decoder.forward import PairForward, Source
from services.families.transformer.encoder_decoder.sampler import PairSampler
from services.families.transformer.family import load
from services.nn.text.params import GenerateParams, SamplingOptions
from shared.config.transformer import EmbeddingModel, MaskedModel
from tests.contract.suite import ContractCase, SamplerContract
from tests.contract.test_transformer import OPTIONS, answer
from tests.shape_checkpoints import EOS, make_embedder, make_masked, make_pair
from tests.unit.transformer.driver import load_pair, random_prompts


def targets() -> list[GenerateParams]:
    return [
        GenerateParams(
            "completion",
            (*source, EOS),
            max_new_tokens=5 + 3 * i,
            seed=i,
            sampling=OPTIONS[i % len(OPTIONS)],
            stops=("qz",) if i == 2 else (),
            ignore_eos=i % 2 == 0,
            logprobs=2 if i == 3 else None,
        )
        for i, source in enumerate(random_prompts(5, longest=30, vocabulary=320, seed=4))
    ]


class BreaksOnce(PairForward):
    """Raises once, after the rows that decode are computed and some sources are read, cache writes included."""

    def __init__(self, inner: PairForward) -> None:
        self.inner, self.broken = inner, False
        self.decode = inner.decode

    def read(self, sources: Sequence[Source]) -> Tensor:
        logits = self.inner.read(sources)
        if not self.broken:
            self.broken = True
            raise RuntimeError("injected fault")
        return logits


@contextmanager
def broken_batch(sampler: PairSampler) -> Generator[None]:
    kept, sampler.forward = sampler.forward, BreaksOnce(sampler.forward)
    yield
    sampler.forward = kept


class TestEncoderDecoder(SamplerContract):
    @pytest.fixture(scope="class", params=["t5", "bart"])
    @classmethod
    def case(cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ContractCase[object]:
        folder = make_pair(request.param, tmp_path_factory.mktemp(request.param))
        loaded = load_pair(folder, encode_tokens=40)  # so that sources take turns

        def fresh() -> PairSampler:
            known: PairSampler = loaded.sampler
            assert len(known.table) == 0
            return known

        return ContractCase(
            name=request.param,
            make_sampler=fresh,
            params=targets(),
            result=answer,
            live=lambda sampler: len(sampler.table),
            broken_batch=broken_batch,
        )


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, atol=1e-5)


class TestEmbeddings(SamplerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def case(cls, tmp_path_factory: pytest.TempPathFactory) -> ContractCase[Tensor]:
        folder = make_embedder(tmp_path_factory.mktemp("embedder"))
        config = EmbeddingModel(id="tiny", source="file://tiny", kind="embedding", step_tokens=100, max_batch_size=8)
        sampler = load(config, folder).sampler
        texts = random_prompts(5, longest=30, vocabulary=150, seed=2)

        def vector(chunks: Sequence[Embedded]) -> Tensor:
            (chunk,) = chunks
            return chunk.vector

        return ContractCase(
            name="embedding",
            make_sampler=lambda: sampler,
            params=[EmbedParams(tuple(text), 32 - 5 * i, "float") for i, text in enumerate(texts)],
            result=vector,
            live=lambda sampler: len(sampler.rows),
            equal=close,
            one_shot=True,
        )


class TestMasks(SamplerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def case(cls, tmp_path_factory: pytest.TempPathFactory) -> ContractCase[object]:
        folder = make_masked("bert", tmp_path_factory.mktemp("bert"))
        config = MaskedModel(id="tiny", source="file://tiny", kind="masked", step_tokens=100, max_batch_size=8)
        sampler = load(config, folder).sampler
        choices = [SamplingOptions(temperature=0), SamplingOptions(temperature=1.3), SamplingOptions(top_k=5)]

        def row(i: int, text: list[int]) -> FillParams:
            places = tuple(range(0, len(text), 3))
            ids = tuple(3 if at in places else token for at, token in enumerate(text))
            return FillParams(ids, places, None, (), i, choices[i % 3], 1 if i == 2 else None)

        def tokens(chunks: Sequence[Filled]) -> object:
            (chunk,) = chunks
            return chunk.tokens, [raw.token for raw in chunk.logprobs or ()]

        return ContractCase(
            name="masked",
            make_sampler=lambda: sampler,
            params=[row(i, text) for i, text in enumerate(random_prompts(5, longest=30, vocabulary=150, seed=2))],
            result=tokens,
            live=lambda sampler: len(sampler.rows),
            one_shot=True,
        )
