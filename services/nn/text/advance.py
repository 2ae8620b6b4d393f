"""Owns what one step does to one row of text: computed without touching the row, then committed and given out."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from services.engine.contract import FinishReason, StepOutput
from services.nn.text.params import GenerateParams, RawLogprob, ReadyParams, TextChunk
from services.nn.text.rows import Spoken, TextRow
from shared.events import TextDelta, TokenIds

RowT = TypeVar("RowT", bound=TextRow)
Chunk = TextChunk | TextDelta | TokenIds


@dataclass(slots=True, eq=False)
class ReadyState:
    """A row whose answer is known; it never meets the model."""

    params: ReadyParams


@dataclass(frozen=True, slots=True)
class Advance(Generic[RowT]):
    """One row's step, ready to commit. `fed` tokens were read; `token` was chosen, unless more of the prompt comes.

    `earlier`: tokens that the step chose before that one, each as it had been guessed. `spoken` has the text of all.
    `guessed`: how many guesses the step checked, of which those were right. `finite` False: the row's values are no
    numbers, and it has failed.
    """

    row: RowT
    fed: int
    finite: bool
    prompt_logprobs: tuple[RawLogprob, ...] = ()
    token: int | None = None
    spoken: Spoken | None = None
    earlier: tuple[tuple[int, Spoken], ...] = ()
    guessed: int = 0

    @property
    def units(self) -> float:
        """Prompt tokens read and tokens made; a row that only scores its prompt makes none."""
        read = 0 if self.row.decoding else self.fed
        return float(read + len(self.earlier) + (self.token is not None and self.row.params.max_new_tokens > 0))


def text_batch_key(params: GenerateParams | ReadyParams) -> Hashable:
    """All rows of an adapter, or of none, that generate share steps; those of a ready answer never meet the model."""
    if isinstance(params, ReadyParams):
        return "ready"
    return "generate", None if params.adapter is None else params.adapter.key


def output_of(state: TextRow | ReadyState, move: Advance[Any] | None) -> StepOutput[Chunk]:
    """What a step gives of a row; `move` is None where it did nothing to it. Call it before the commit."""
    if isinstance(state, ReadyState):
        return StepOutput(state.params.answer, FinishReason.STOP, state.params.cost)
    if move is None:
        return StepOutput(None, None, 0.0)  # its prompt waits for its turn
    if not move.finite:
        return StepOutput(None, FinishReason.ERROR, 0.0)
    if move.spoken is None:
        return StepOutput(None, None, move.units)
    return StepOutput(move.spoken.chunk, move.spoken.finish, move.units)
