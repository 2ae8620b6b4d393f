"""Owns the steps: grids at rows of their own, of their own classes and temperatures, draw one row each in a step.

What a grid keeps of the rows above goes with it, so a step costs a row of each, not its image. Whether a grid that is
complete is good, or drawn anew, and what is given of it, is for a `Finish` to say.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch

from services.engine.contract import FinishReason, Preview, StepOutput
from services.families.pixelcnn.model import GatedPixelCnn
from services.families.pixelcnn.params import FREE, AnyParams, DrawParams, ImageParams, LevelParams, ScoreParams, Values
from services.families.pixelcnn.rows import Above, DrawnRow, RowOrder, draw_rows, nothing_above
from services.nn.device import device_errors
from services.nn.one_shot import Pass, one_pass
from services.nn.rng import derive_seed, row_generator

PASSES_A_STEP = 32  # of whole grids; each takes some milliseconds

DrawT = TypeVar("DrawT", ImageParams, LevelParams)
DrawT_contra = TypeVar("DrawT_contra", bound=DrawParams, contravariant=True)
ChunkT = TypeVar("ChunkT")
ChunkT_co = TypeVar("ChunkT_co", covariant=True)


class Finish(Protocol[DrawT_contra, ChunkT_co]):
    """What becomes of a grid's values int64 (H, W)."""

    def whole(self, params: DrawT_contra, values: Values, attempt: int) -> ChunkT_co | None:
        """The chunk of a complete grid; None where it is to be drawn anew."""
        ...

    def preview(self, params: DrawT_contra, values: Values, rows: int) -> ChunkT_co | None:
        """A chunk of its first `rows` rows; None where none is due."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """How far a grid is: `row` rows of `values` are drawn, in its `attempt`-th attempt (from 1)."""

    attempt: int
    row: int
    values: Values
    above: Above


@dataclass(slots=True, eq=False)
class GridState:
    """A running row of a request. A step replaces `progress` as a whole; a row of one pass has none."""

    params: AnyParams
    progress: Progress | None


class RowSampler(Generic[DrawT, ChunkT]):
    """Implements `services.engine.contract.Sampler`. `passes`: by task, what needs one pass alone."""

    def __init__(
        self,
        model: GatedPixelCnn,
        finish: Finish[DrawT, ChunkT],
        max_batch_size: int,
        passes: Mapping[str, Pass[Any, Any]] | None = None,
    ) -> None:
        self.model = model
        self.running: set[GridState] = set()
        self._finish = finish
        self._max_batch_size = max_batch_size
        self._passes = dict(passes or {})

    @property
    def max_batch_size(self) -> int:
        return self._max_batch_size

    def batch_key(self, params: AnyParams) -> Hashable:
        """All that draw share steps, whatever row they are at; a pass over whole grids shares none with them."""
        return params.task if params.task in self._passes else "rows"

    def fits(self, params: AnyParams, states: Sequence[GridState]) -> bool:
        """A full batch is counted in the model's memory already, and no row takes more than another."""
        return len(states) < self._max_batch_size

    def start(self, params: AnyParams) -> GridState:
        with device_errors():
            state = GridState(params, None if isinstance(params, ScoreParams) else self._blank(1))
        self.running.add(state)
        return state

    def step(self, states: Sequence[GridState]) -> list[StepOutput[Any]]:
        run = self._passes.get(states[0].params.task)
        if run is not None:
            now = _quantum([state.params for state in states])
            return [*one_pass(run, now), *[StepOutput(None, None, 0.0)] * (len(states) - len(now))]
        rows = [_drawing(state) for state in states]
        with torch.inference_mode(), device_errors():
            drawn = draw_rows(self.model, self._order(rows))
        moves = [self._advance(*row, new) for row, new in zip(rows, drawn, strict=True)]
        for state, (progress, _) in zip(states, moves, strict=True):
            state.progress = progress
        return [output for _, output in moves]

    def release(self, state: GridState) -> None:
        self.running.remove(state)

    def _blank(self, attempt: int) -> Progress:
        config = self.model.config
        return Progress(attempt, 0, np.zeros((config.height, config.width), np.int64), nothing_above(self.model))

    def _order(self, rows: Sequence[tuple[Any, Progress]]) -> RowOrder:
        """What each grid's next row is drawn from: by its seed, attempt and row alone, so that a retry is the same."""
        device = self.model.to_logits.weight.device
        return RowOrder(
            above=[progress.above for _, progress in rows],
            place=torch.tensor([progress.row for _, progress in rows], device=device),
            label=torch.tensor([params.label for params, _ in rows], device=device),
            temperature=torch.tensor([params.temperature for params, _ in rows], dtype=torch.float64, device=device),
            uniform=torch.stack([self._uniform(*row) for row in rows]).to(device),
            given=torch.from_numpy(np.stack([self._given(*row) for row in rows])).to(device),
        )

    def _uniform(self, params: DrawParams, progress: Progress) -> torch.Tensor:
        """float64 (W,) in [0, 1)."""
        config = self.model.config
        seed = derive_seed(params.seed, (progress.attempt - 1) * config.height + progress.row)
        return torch.rand(config.width, dtype=torch.float64, generator=row_generator(seed))

    def _given(self, params: DrawParams, progress: Progress) -> Values:
        """(W,): what is known of the row."""
        values = params.given_values
        return np.full(self.model.config.width, FREE) if values is None else values[progress.row]

    def _advance(self, params: Any, before: Progress, drawn: DrawnRow) -> tuple[Progress, StepOutput[Any]]:
        """A grid's progress after its new row, and what it gives."""
        if not drawn.finite:
            return before, StepOutput(None, FinishReason.ERROR, 1.0)
        values = before.values.copy()
        values[before.row] = drawn.values.numpy()
        after = Progress(before.attempt, before.row + 1, values, drawn.above)
        if after.row < len(values):
            preview = self._finish.preview(params, values, after.row)
            return after, StepOutput(None if preview is None else Preview(preview), None, 1.0)
        chunk = self._finish.whole(params, values, before.attempt)
        if chunk is None:
            return self._blank(before.attempt + 1), StepOutput(None, None, 1.0)
        return after, StepOutput(chunk, FinishReason.STOP, 1.0)


def _quantum(rows: Sequence[AnyParams]) -> Sequence[AnyParams]:
    """The first rows whose passes are a step's work together, one at least; the others wait for the next steps."""
    costs = accumulate(row.cost for row in rows)
    return rows[: max(1, sum(cost <= PASSES_A_STEP for cost in costs))]


def _drawing(state: GridState) -> tuple[Any, Progress]:
    if state.progress is None:
        raise RuntimeError("a row of one pass shares a step with rows that draw")
    return state.params, state.progress
