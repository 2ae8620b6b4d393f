"""Owns drawing many tunes at once for evaluation and sheets, as serving draws them but for the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.families.recurrent.language import TOKENIZER, load_net
from services.families.recurrent.model import RecurrentLM
from services.families.recurrent.music.grammar import Grammar
from services.families.recurrent.music.lexicon import Terms, read_lexemes
from services.families.recurrent.music.orders import params_of
from services.families.recurrent.music.sampler import TuneChunk, TuneOrder, TuneSampler
from services.families.recurrent.music.scores import Tune
from services.families.recurrent.music.vocabulary import LexemeDetokenizer, Lexemes, read_lexemes_file
from services.families.recurrent.sampler import SamplerLimits
from services.nn.rng import derive_seed
from services.nn.text.params import SamplingOptions
from services.nn.text.rows import RowText
from shared.schemas.music import MusicFormat

USUAL_TEMPOS = {"reel": 108, "jig": 116, "hornpipe": 88, "strathspey": 80}  # beats a minute, as they are danced
USUAL_TEMPO = 100
_TOGETHER = 64
_FORMATS: tuple[MusicFormat, ...] = ("abc",)


@dataclass(frozen=True, slots=True, eq=False)
class Musician:
    """A net with its lexemes and rules."""

    net: RecurrentLM
    lexemes: Lexemes
    grammar: Grammar

    @classmethod
    def of(cls, net: RecurrentLM, lexemes: Lexemes) -> Musician:
        return cls(net, lexemes, Grammar(lexemes))

    @classmethod
    def load(cls, folder: Path) -> Musician:
        """Of a folder of weights, in float32 on the CPU."""
        return cls.of(load_net(folder), read_lexemes_file(folder / TOKENIZER))

    def sampler(self, limits: SamplerLimits) -> TuneSampler:
        text = RowText(LexemeDetokenizer(self.lexemes), frozenset((self.lexemes.end,)))
        return TuneSampler(self.net, text, limits, self.grammar)

    def draw(
        self, terms: Sequence[Terms], bars: int, *, sampling: SamplingOptions | None = None, seed: int = 0
    ) -> list[Tune]:
        """A tune of each terms; the i-th draws from (seed, i)."""
        sampler = self.sampler(SamplerLimits(_TOGETHER, 4096, 2**30))
        orders = [
            TuneOrder(each, bars, tempo_of(each.genre), (), _FORMATS, derive_seed(seed, i))
            for i, each in enumerate(terms)
        ]
        rows = [
            params_of(order, self.lexemes, self.grammar, sampling or SamplingOptions(), order.seed) for order in orders
        ]
        drawn: list[Tune] = []
        for at in range(0, len(rows), _TOGETHER):
            states = [sampler.start(row) for row in rows[at : at + _TOGETHER]]
            chunks: dict[int, TuneChunk] = {}
            while running := [i for i in range(len(states)) if i not in chunks]:
                for i, output in zip(running, sampler.step([states[i] for i in running]), strict=True):
                    if output.chunk is not None:
                        chunks[i] = output.chunk
            drawn += [tune_of(chunks[i]) for i in range(len(states))]
        return drawn


def tune_of(chunk: TuneChunk) -> Tune:
    """The tune with its opening."""
    order = chunk.order
    opening = order.opening or (f"|{order.bars}",)
    terms = order.terms
    bars = read_lexemes((*opening, *chunk.lexemes))
    return Tune(terms.genre, terms.metre, terms.key, bars, order.tempo, f"{terms.genre} {order.seed}")


def tempo_of(genre: str) -> int:
    return USUAL_TEMPOS.get(genre, USUAL_TEMPO)
