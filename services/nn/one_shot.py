"""Owns samplers whose rows end with their first step: one pass of a network answers all rows of a batch.

Also the step that a sampler of many steps takes for those of its tasks that need one pass alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from services.engine.contract import FinishReason, Params, StepOutput
from services.nn.device import device_errors

ParamsT = TypeVar("ParamsT", bound=Params)
ChunkT = TypeVar("ChunkT")

# From rows to a chunk each; None where a row's values are not finite. A row's chunk depends on that row alone.
Pass = Callable[[Sequence[ParamsT]], Sequence[ChunkT | None]]


def one_pass(run: Pass[ParamsT, ChunkT], rows: Sequence[ParamsT]) -> list[StepOutput[ChunkT]]:
    """The first and last step of these rows. Raises DeviceFailure when the device can no longer be trusted."""
    with torch.inference_mode(), device_errors():
        chunks = run(rows)
    return [_output(row, chunk) for row, chunk in zip(rows, chunks, strict=True)]


def _output(row: Params, chunk: ChunkT | None) -> StepOutput[ChunkT]:
    if chunk is None:
        return StepOutput(None, FinishReason.ERROR, 0.0)
    return StepOutput(chunk, FinishReason.STOP, row.cost)


@dataclass(frozen=True, slots=True, eq=False)
class OneShotRow(Generic[ParamsT]):
    """A row before its step."""

    params: ParamsT


class OneShotSampler(Generic[ParamsT, ChunkT]):
    """Implements `services.engine.contract.Sampler`. `passes` by task; rows whose tasks have one pass share steps.

    Rows run together only while their costs are at most `max_cost` in sum, which bounds how long a step takes; a row
    that costs more runs alone.
    """

    def __init__(
        self, passes: Mapping[str, Pass[ParamsT, ChunkT]], max_batch_size: int, *, max_cost: float = math.inf
    ) -> None:
        self.passes = dict(passes)
        self.rows: set[OneShotRow[ParamsT]] = set()
        self._max_batch_size, self._max_cost = max_batch_size, max_cost

    @property
    def max_batch_size(self) -> int:
        return self._max_batch_size

    def batch_key(self, params: ParamsT) -> Hashable:
        return self.passes[params.task]

    def fits(self, params: ParamsT, states: Sequence[OneShotRow[ParamsT]]) -> bool:
        """A full batch is counted in the model's memory already, and no row takes more than another."""
        if len(states) >= self._max_batch_size:
            return False
        if not states or math.isinf(self._max_cost):
            return True
        return params.cost + sum(state.params.cost for state in states) <= self._max_cost

    def start(self, params: ParamsT) -> OneShotRow[ParamsT]:
        row = OneShotRow(params)
        self.rows.add(row)
        return row

    def step(self, states: Sequence[OneShotRow[ParamsT]]) -> list[StepOutput[ChunkT]]:
        return one_pass(self.passes[states[0].params.task], [row.params for row in states])

    def release(self, state: OneShotRow[ParamsT]) -> None:
        self.rows.remove(state)
