"""Owns how a tune is drawn by the recurrent sampler: the rules of bars, and the answer as a tune's chunk.

Steps, states and commits are the recurrent sampler's own; a lexeme is its token.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from services.engine.contract import StepOutput
from services.families.recurrent.model import RecurrentLM
from services.families.recurrent.music.grammar import Grammar, Place
from services.families.recurrent.music.lexicon import Terms
from services.families.recurrent.sampler import Chunk, Params, RecurrentSampler, SamplerLimits, State
from services.families.recurrent.state import RowState
from services.nn.device import device_errors
from services.nn.text.params import GenerateParams, TextChunk
from services.nn.text.rows import RowText, Spoken
from services.nn.text.sampling import Choice, Seen
from shared.schemas.music import MusicFormat


@dataclass(frozen=True, slots=True)
class TuneOrder:
    """What a row is to be. `opening`: lexemes of given bars, the first bar's own included; `seed`: the client's."""

    terms: Terms
    bars: int
    tempo: int
    opening: tuple[str, ...]
    formats: tuple[MusicFormat, ...]
    seed: int

    @property
    def seconds(self) -> float:
        return self.terms.metre.seconds(self.bars * self.terms.metre.bar, self.tempo)


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneParams(GenerateParams):
    """One tune. `place`: where its prompt ends."""

    order: TuneOrder
    place: Place


@dataclass(frozen=True, slots=True)
class TuneChunk:
    """A whole tune: the lexemes that follow its opening."""

    order: TuneOrder
    lexemes: tuple[str, ...]


@dataclass(slots=True, eq=False)
class TuneRow(RowState):
    """A running tune. What may follow depends on its place alone."""

    grammar: Grammar = field(kw_only=True)
    place: Place = field(kw_only=True)

    def choice(self, eos: tuple[int, ...], ahead: int = 0) -> Choice:
        return Choice(self.params.sampling, self.seen, self.uniform(ahead), self.grammar.banned(self.place))

    def take(self, token: int, spoken: Spoken) -> None:
        RowState.take(self, token, spoken)
        self.place = self.grammar.after(self.place, token)


class _TuneRows(RecurrentSampler):
    """The recurrent sampler with rows that keep to the rules."""

    def __init__(self, model: RecurrentLM, text: RowText, limits: SamplerLimits, grammar: Grammar) -> None:
        super().__init__(model, text, limits)
        self._grammar = grammar

    def start(self, params: Params) -> State:
        if not isinstance(params, TuneParams):
            raise TypeError(f"a model of tunes got {type(params).__name__}")
        shape = self.model.config
        with device_errors():
            seen = Seen.of(params.sampling, params.prompt, shape.vocabulary, self.model.head.weight.device)
        started = self._text.start(params)
        row = TuneRow(params, seen, started, read_at=self._step, grammar=self._grammar, place=params.place)
        self.rows.add(row)
        return row


class TuneSampler:
    """Implements `services.engine.contract.Sampler` over TuneParams and TuneChunk."""

    def __init__(self, model: RecurrentLM, text: RowText, limits: SamplerLimits, grammar: Grammar) -> None:
        self._inner = _TuneRows(model, text, limits, grammar)

    @property
    def max_batch_size(self) -> int:
        return self._inner.max_batch_size

    @property
    def model(self) -> RecurrentLM:
        return self._inner.model

    @model.setter
    def model(self, model: RecurrentLM) -> None:
        self._inner.model = model

    @property
    def running(self) -> int:
        """Rows that were started and not released."""
        return len(self._inner.rows)

    def batch_key(self, params: TuneParams) -> Hashable:
        """All tunes share steps, whatever they are to be."""
        return self._inner.batch_key(params)

    def fits(self, params: TuneParams, states: Sequence[State]) -> bool:
        return self._inner.fits(params, states)

    def start(self, params: TuneParams) -> State:
        return self._inner.start(params)

    def step(self, states: Sequence[State]) -> list[StepOutput[TuneChunk]]:
        outputs = self._inner.step(states)
        return [_tune(state, output) for state, output in zip(states, outputs, strict=True)]

    def release(self, state: State) -> None:
        self._inner.release(state)


def _tune(state: State, output: StepOutput[Chunk]) -> StepOutput[TuneChunk]:
    params, chunk = state.params, output.chunk
    if not isinstance(params, TuneParams) or not isinstance(chunk, TextChunk):
        return StepOutput(None, output.finish_reason, output.units)
    return StepOutput(TuneChunk(params.order, tuple(chunk.text.split())), output.finish_reason, output.units)
