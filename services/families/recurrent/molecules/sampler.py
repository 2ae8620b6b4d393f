"""Owns the attempts at a molecule: the net's sampler makes tokens, and what is not valid is begun anew.

A new attempt begins with the step after the one that ended the last, so that a step that fails has begun nothing that
its repetition would begin again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from services.engine.contract import FinishReason, Sampler, StepOutput
from services.families.recurrent.molecules.params import MoleculeChunk, MoleculeParams
from services.nn.text.params import GenerateParams, TextChunk

AnyParams = MoleculeParams | GenerateParams
_ENDED_WELL = (FinishReason.STOP, FinishReason.LENGTH)


@dataclass(slots=True, eq=False)
class MoleculeState:
    """A running molecule: the net's own row, and in which attempt it is. `is_over`: that attempt gave nothing valid."""

    params: MoleculeParams
    row: Any
    attempt: int = 1
    is_over: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class PlainState:
    """A row that the net's sampler serves as it is: a score."""

    row: Any


State = MoleculeState | PlainState


class MoleculeSampler:
    """Implements `services.engine.contract.Sampler` over that of a recurrent net. `is_valid` must not raise.

    `inner` takes GenerateParams and gives TextChunks.
    """

    def __init__(self, inner: Sampler[Any, Any, Any], is_valid: Callable[[str], bool]) -> None:
        self.inner = inner
        self._is_valid = is_valid

    @property
    def max_batch_size(self) -> int:
        return self.inner.max_batch_size

    def batch_key(self, params: AnyParams) -> Hashable:
        """Molecules and scores share steps: to the net they are alike."""
        return self.inner.batch_key(_first(params))

    def fits(self, params: AnyParams, states: Sequence[State]) -> bool:
        """An attempt that is over keeps its row until the next begins, so rows are counted as they are."""
        return self.inner.fits(_first(params), [state.row for state in states])

    def start(self, params: AnyParams) -> State:
        row = self.inner.start(_first(params))
        return MoleculeState(params, row) if isinstance(params, MoleculeParams) else PlainState(row)

    def step(self, states: Sequence[State]) -> list[StepOutput[MoleculeChunk | TextChunk]]:
        for state in states:
            if isinstance(state, MoleculeState) and state.is_over:
                self._begin_anew(state)
        outputs = self.inner.step([state.row for state in states])
        return [self._output(state, output) for state, output in zip(states, outputs, strict=True)]

    def release(self, state: State) -> None:
        self.inner.release(state.row)

    def _begin_anew(self, state: MoleculeState) -> None:
        row = self.inner.start(state.params.attempt(state.attempt + 1))
        self.inner.release(state.row)
        state.row, state.attempt, state.is_over = row, state.attempt + 1, False

    def _output(self, state: State, output: StepOutput[TextChunk]) -> StepOutput[MoleculeChunk | TextChunk]:
        """What the net gave becomes a molecule, or nothing yet. Comes after the net's commit, so it never raises."""
        if isinstance(state, PlainState) or output.finish_reason not in _ENDED_WELL or output.chunk is None:
            return output
        params = state.params
        smiles = params.scaffold + output.chunk.text
        if state.attempt < params.attempts and not self._is_valid(smiles):
            state.is_over = True
            return StepOutput(None, None, output.units)
        return StepOutput(MoleculeChunk(smiles, state.attempt, params), output.finish_reason, output.units)


def _first(params: AnyParams) -> GenerateParams:
    return params.first if isinstance(params, MoleculeParams) else params
