"""Owns forecasts' steps: rows read their series in pieces, then all their paths go on, a value or some a step."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from services.engine.contract import FinishReason, StepOutput
from services.families.recurrent.forecasts.model import ForecastLstm, State, Traits, lags_of, reach
from services.families.recurrent.forecasts.params import ForecastParams
from services.nn.device import device_errors
from services.nn.forecasts import quantiles_of
from services.nn.rng import derive_seed, row_generator

PIECE = 128  # values that a row reads a step
BLOCK = 8  # values that a step tells at most
_PATHS = 2048  # paths' values that a step tells, unless one of each is more
_SMALLEST = 1e-7  # of a uniform variable


@dataclass(frozen=True, slots=True)
class ForecastChunk:
    """In the client's unit: the mean at each time, and a list of each level's quantiles."""

    params: ForecastParams
    mean: tuple[float, ...]
    quantiles: tuple[tuple[float, ...], ...]


Output = StepOutput[ForecastChunk]


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """How far a row is: values read and told, its LSTM's states, and once all is read its paths' last values.

    `state` is of one path until then; `recent` (S, reach). Of each time told that was asked for: `means`, of what the
    paths expect, and `drawn` (S,).
    """

    read: int = 0
    told: int = 0
    state: State | None = None
    recent: Tensor | None = None
    means: tuple[float, ...] = ()
    drawn: tuple[Tensor, ...] = ()


@dataclass(slots=True, eq=False)
class ForecastRow:
    """A running row."""

    params: ForecastParams
    progress: Progress = field(default_factory=Progress)

    @property
    def has_read(self) -> bool:
        return self.progress.read == len(self.params.series.values)


class ForecastSampler:
    """Implements `services.engine.contract.Sampler`. `memory`: bytes for what all running rows keep."""

    def __init__(self, model: ForecastLstm, max_batch_size: int, memory: int) -> None:
        self.model = model
        self.rows: set[ForecastRow] = set()
        self._max_batch_size, self._memory = max_batch_size, memory

    @property
    def max_batch_size(self) -> int:
        return self._max_batch_size

    def batch_key(self, params: ForecastParams) -> Hashable:
        return None

    def fits(self, params: ForecastParams, states: Sequence[ForecastRow]) -> bool:
        """One row always fits."""
        taken = sum(self.row_memory(state.params) for state in states)
        return not states or taken + self.row_memory(params) <= self._memory

    def row_memory(self, params: ForecastParams) -> int:
        """Bytes: of each path states, once more while they are computed, its last values, and what is asked for."""
        config = self.model.config
        states = 2 * config.layers * config.hidden
        numbers = 2 * states + 4 * config.hidden + reach(params.series.season) + BLOCK + len(params.steps)
        return params.samples * numbers * self.model.head.weight.itemsize

    def start(self, params: ForecastParams) -> ForecastRow:
        row = ForecastRow(params)
        self.rows.add(row)
        return row

    def step(self, states: Sequence[ForecastRow]) -> list[Output]:
        after: dict[ForecastRow, Progress] = {}
        with torch.inference_mode(), device_errors():
            if reading := [row for row in states if not row.has_read]:
                after.update(zip(reading, self._read(reading), strict=True))
            if telling := [row for row in states if row.has_read]:
                after.update(zip(telling, self._told(telling), strict=True))
            outputs = [_output(row, after[row]) for row in states]
        for row, progress in after.items():
            row.progress = progress
        return outputs

    def release(self, state: ForecastRow) -> None:
        self.rows.remove(state)
        state.progress = Progress()

    def _read(self, rows: Sequence[ForecastRow]) -> Iterator[Progress]:
        """Each row's next piece. Rows read one by one: packed together they would round in another way."""
        for row in rows:
            before, params = row.progress, row.params
            traits = self._traits([row], [1])
            values = params.series.values[None].to(traits.unit)
            at = torch.arange(before.read, min(before.read + PIECE, values.shape[1]), device=values.device)[None]
            lags = lags_of(values, at, at, traits.season)
            state = self.model.read(lags, at, traits, before.state)
            after = replace(before, read=before.read + at.shape[1], state=state)
            if after.read == values.shape[1]:
                width = reach(params.series.season)
                recent = torch.nn.functional.pad(values[:, -width:], (max(0, width - values.shape[1]), 0))
                paths = (state[0].expand(-1, params.samples, -1), state[1].expand(-1, params.samples, -1))
                after = replace(after, state=paths, recent=recent.expand(params.samples, -1))
            yield after

    def _told(self, rows: Sequence[ForecastRow]) -> Iterator[Progress]:
        """All paths some values on. A row that is done before the others stands still: what it is told is dropped."""
        counts = [row.params.samples for row in rows]
        left = [row.params.steps[-1] - row.progress.told for row in rows]
        block = max(1, min(BLOCK, max(left), _PATHS // sum(counts)))
        traits = self._traits(rows, counts)
        values, state = _joined(rows)
        width = values.shape[1]
        ages = torch.tensor([row.progress.read + row.progress.told for row in rows], device=values.device)
        age = ages.repeat_interleave(torch.tensor(counts, device=values.device))[:, None]
        means: list[Tensor] = []
        for i in range(block):
            lags = lags_of(values, torch.full_like(age, width + i), age + i, traits.season)
            told, state = self.model(lags, age + i, traits, state)
            first, second = torch.cat([_uniform(row, i) for row in rows], dim=1).to(values)
            values = torch.cat([values, told.draw(first[:, None], second[:, None])], dim=1)
            means.append(told.mean[:, 0])
        expected = torch.stack(means)  # (block, P)
        start = 0
        for row, count in zip(rows, counts, strict=True):
            paths = slice(start, start := start + count)
            yield _taken(row, values[paths], width, (state[0][:, paths], state[1][:, paths]), expected[:, paths])

    def _traits(self, rows: Sequence[ForecastRow], counts: Sequence[int]) -> Traits:
        repeats = torch.tensor(counts)
        season = torch.tensor([row.params.series.season for row in rows]).repeat_interleave(repeats)
        unit = torch.tensor([row.params.series.unit for row in rows]).repeat_interleave(repeats)
        return Traits(season, unit).to(self.model.head.weight)


def _joined(rows: Sequence[ForecastRow]) -> tuple[Tensor, State]:
    """The last values (P, W) and the states of all rows' paths; before those of a shorter reach are zeros."""
    recent, hidden, cell = list[Tensor](), list[Tensor](), list[Tensor]()
    for row in rows:
        state, last = row.progress.state, row.progress.recent
        assert state is not None, "read"
        assert last is not None, "read"
        recent.append(last)
        hidden.append(state[0])
        cell.append(state[1])
    width = max(last.shape[1] for last in recent)
    padded = [torch.nn.functional.pad(last, (width - last.shape[1], 0)) for last in recent]
    return torch.cat(padded), (torch.cat(hidden, dim=1), torch.cat(cell, dim=1))


def _uniform(row: ForecastRow, i: int) -> Tensor:
    """(2, S) in (0, 1]: a function of seed and time, so that a step that is tried again draws the same."""
    generator = row_generator(derive_seed(row.params.seed, row.progress.told + i + 1))
    return (1 - torch.rand((2, row.params.samples), generator=generator)).clamp_min(_SMALLEST)


def _taken(row: ForecastRow, seen: Tensor, width: int, state: State, means: Tensor) -> Progress:
    """The row's progress after a block: `seen` (S, width + block), of which the block is new, means (block, S)."""
    before, params = row.progress, row.params
    new = seen[:, width:]
    taken = min(new.shape[1], params.steps[-1] - before.told)
    asked = [step - before.told - 1 for step in params.steps if before.told < step <= before.told + taken]
    return replace(
        before,
        told=before.told + taken,
        state=(state[0].clone(), state[1].clone()),  # not views, which would keep the whole batch's
        recent=seen[:, -reach(params.series.season) :].clone(),
        means=before.means + tuple(means.double().mean(1)[asked].tolist()),
        drawn=before.drawn + tuple(new[:, asked].T.clone().unbind()),
    )


def _output(row: ForecastRow, after: Progress) -> Output:
    params, before = row.params, row.progress
    units = float(after.read - before.read + params.samples * (after.told - before.told))
    if not _finite(after):
        return StepOutput(None, FinishReason.ERROR, units)
    if after.told < params.steps[-1]:
        return StepOutput(None, None, units)
    return StepOutput(_forecast(params, after), FinishReason.STOP, units)


def _finite(progress: Progress) -> bool:
    tensors = [*(progress.state or ()), *(() if progress.recent is None else (progress.recent,))]
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def _forecast(params: ForecastParams, done: Progress) -> ForecastChunk:
    series = params.series
    means = series.values_of(torch.tensor(done.means, dtype=torch.float64))
    quantiles = series.values_of(quantiles_of(torch.stack(done.drawn), params.quantiles))  # (Q, T)
    return ForecastChunk(params, tuple(means.tolist()), tuple(tuple(line) for line in quantiles.tolist()))
