"""Models of tunes pass the contract suite: unlike genres, lengths, openings and temperatures together."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from services.families.recurrent.model import RecurrentLM
from services.families.recurrent.music.drawing import Musician
from services.families.recurrent.music.keys import Key
from services.families.recurrent.music.lexicon import Terms, spell_bars
from services.families.recurrent.music.orders import params_of
from services.families.recurrent.music.sampler import TuneChunk, TuneOrder, TuneParams, TuneSampler
from services.families.recurrent.music.scores import Metre, Note
from services.families.recurrent.sampler import SamplerLimits
from services.nn.text.params import SamplingOptions
from tests.contract.suite import ContractCase, SamplerContract
from tests.unit.recurrent.music.tiny import LEXEMES, tiny_net

GIVEN = tuple(spell_bars([(Note(0, 0, 96), Note(4, 0, 96)), (Note(2, 0, 48),)], 4))


def row(musician: Musician, seed: int, genre: str, metre: str, bars: int, *given: str, **options: float) -> TuneParams:
    terms = Terms(genre, Metre.parse(metre), Key("G", "major"))
    order = TuneOrder(terms, bars, 100, given, ("abc",), seed)
    return params_of(order, musician.lexemes, musician.grammar, SamplingOptions(**options), seed)


class BreaksOnce(RecurrentLM):
    """Raises once, after the rows that draw are moved on."""

    def __init__(self, inner: RecurrentLM) -> None:
        super().__init__(inner.config)
        self.load_state_dict(inner.state_dict())
        self.to(inner.head.weight.dtype).eval()
        self.broken = False

    def advance(self, ids: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        moved = super().advance(ids, state)
        if not self.broken and len(ids) > 1:
            self.broken = True
            raise RuntimeError("injected fault")
        return moved


@contextmanager
def broken_batch(sampler: TuneSampler) -> Generator[None]:
    kept, broken = sampler.model, BreaksOnce(sampler.model)
    sampler.model = broken
    yield
    assert broken.broken, "no step failed"
    sampler.model = kept


def only(chunks: Sequence[Any]) -> TuneChunk:
    (chunk,) = chunks
    return chunk


class TestTunes(SamplerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def case(cls) -> ContractCase[TuneChunk]:
        musician = Musician.of(tiny_net().to(torch.float64), LEXEMES)
        return ContractCase(
            name="tunes",
            make_sampler=lambda: musician.sampler(SamplerLimits(8, 64, 2**24)),
            params=[
                row(musician, 1, "reel", "4/4", 1),
                row(musician, 2, "jig", "6/8", 2, temperature=0.7, top_p=0.9),
                row(musician, 3, "reel", "4/4", 4, *GIVEN, temperature=1.5),
                row(musician, -4, "jig", "9/8", 1, temperature=0.0),
            ],
            result=only,
            live=lambda sampler: sampler.running,
            broken_batch=broken_batch,
        )
