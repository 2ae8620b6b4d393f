"""Owns forecasts' steps: rows of their own times and numbers of paths share every solver step.

A row's first step reads its series; every step moves its paths on by a block of solver steps.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from services.engine.contract import FinishReason, StepOutput
from services.families.neural_ode.series.model import LatentOde
from services.families.neural_ode.series.params import ForecastParams
from services.families.neural_ode.solvers import METHODS, take_step
from services.nn.device import device_errors
from services.nn.forecasts import quantiles_of
from services.nn.rng import derive_seed, row_generator

BLOCK = 8  # solver steps of an engine's step
METHOD = METHODS["rk4"]


@dataclass(frozen=True, slots=True)
class ForecastChunk:
    """In the client's unit: the mean at each time, and a list of each level's quantiles."""

    params: ForecastParams
    mean: tuple[float, ...]
    quantiles: tuple[tuple[float, ...], ...]


Output = StepOutput[ForecastChunk]


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """How far a row is: solver steps taken, its paths' latents (S, Z), and of each target passed its values.

    `means` (S,) are the decoder's, `drawn` (S,) one draw of each path.
    """

    step: int = 0
    latent: Tensor | None = None  # None: the series was not read yet
    means: tuple[Tensor, ...] = ()
    drawn: tuple[Tensor, ...] = ()


@dataclass(slots=True, eq=False)
class SeriesRow:
    """A running row."""

    params: ForecastParams
    progress: Progress = Progress()


class SeriesSampler:
    """Implements `services.engine.contract.Sampler`. `memory`: bytes for what all running rows keep."""

    def __init__(self, model: LatentOde, max_batch_size: int, memory: int) -> None:
        self.model = model
        self.rows: set[SeriesRow] = set()
        self._max_batch_size, self._memory = max_batch_size, memory

    @property
    def max_batch_size(self) -> int:
        return self._max_batch_size

    def batch_key(self, params: ForecastParams) -> Hashable:
        return None

    def fits(self, params: ForecastParams, states: Sequence[SeriesRow]) -> bool:
        """One row always fits."""
        taken = sum(self.row_memory(state.params) for state in states)
        return not states or taken + self.row_memory(params) <= self._memory

    def row_memory(self, params: ForecastParams) -> int:
        """Bytes: two values of each path and target, and a block of latents."""
        numbers = 2 * len(params.times) + (BLOCK + 1) * self.model.config.latent
        return params.samples * numbers * self.model.frequencies.itemsize

    def start(self, params: ForecastParams) -> SeriesRow:
        row = SeriesRow(params)
        self.rows.add(row)
        return row

    def step(self, states: Sequence[SeriesRow]) -> list[Output]:
        with torch.inference_mode(), device_errors():
            latents = [self._read(row.params) if row.progress.latent is None else row.progress.latent for row in states]
            blocks = self._moved(states, latents)
            after = [self._taken(row, block) for row, block in zip(states, blocks, strict=True)]
            outputs = [_output(row, progress) for row, progress in zip(states, after, strict=True)]
        for row, progress in zip(states, after, strict=True):
            row.progress = progress
        return outputs

    def release(self, state: SeriesRow) -> None:
        self.rows.remove(state)
        state.progress = Progress()

    def _read(self, params: ForecastParams) -> Tensor:
        """Latents (S, Z) at the last observation, drawn of the row's seed. Series are read one by one."""
        weight = self.model.frequencies
        mean, deviation = self.model.read(params.series.observations[None].to(weight))
        noise = torch.randn(params.samples, self.model.config.latent, generator=row_generator(params.seed))
        return mean + deviation * noise.to(weight)

    def _moved(self, rows: Sequence[SeriesRow], latents: Sequence[Tensor]) -> list[Tensor]:
        """All paths after each of a block's steps: (BLOCK, S, Z) of each row. A row that is done stands still."""
        state = torch.cat(list(latents))
        counts = [len(latent) for latent in latents]
        at: list[Tensor] = []
        for i in range(BLOCK):
            steps = torch.tensor([_width(row, i) for row in rows], dtype=state.dtype)
            widths = steps.repeat_interleave(torch.tensor(counts)).to(state.device)
            state = take_step(self.model, state, torch.zeros_like(widths), widths, METHOD)
            at.append(state)
        return list(torch.stack(at).split(counts, dim=1))

    def _taken(self, row: SeriesRow, block: Tensor) -> Progress:
        """The row's progress after a block (BLOCK, S, Z), with the values at the targets that it passed."""
        before, params = row.progress, row.params
        passed = [i for i, mark in enumerate(params.grid.marks) if before.step < mark <= before.step + BLOCK]
        after = replace(before, step=min(before.step + BLOCK, len(params.grid.widths)), latent=block[-1])
        if not passed:
            return after
        at = block[[params.grid.marks[i] - before.step - 1 for i in passed]]
        mean, deviation = self.model.decode(at)  # (M, S)
        noise = torch.stack([_noise(params, i) for i in passed]).to(mean)
        drawn = mean + deviation * noise
        return replace(after, means=before.means + mean.unbind(), drawn=before.drawn + drawn.unbind())


def _width(row: SeriesRow, i: int) -> float:
    step = row.progress.step + i
    widths = row.params.grid.widths
    return widths[step] if step < len(widths) else 0.0


def _noise(params: ForecastParams, target: int) -> Tensor:
    """(S,): a function of seed and target, so that a step that is tried again draws the same."""
    return torch.randn(params.samples, generator=row_generator(derive_seed(params.seed, target + 1)))


def _output(row: SeriesRow, after: Progress) -> Output:
    params, latent = row.params, after.latent
    units = float(params.samples * (after.step - row.progress.step))
    finite = latent is not None and bool(latent.isfinite().all()) and all(bool(x.isfinite().all()) for x in after.drawn)
    if not finite:
        return StepOutput(None, FinishReason.ERROR, units)
    if after.step < len(params.grid.widths):
        return StepOutput(None, None, units)
    return StepOutput(_forecast(params, after), FinishReason.STOP, units)


def _forecast(params: ForecastParams, done: Progress) -> ForecastChunk:
    series = params.series
    means = series.values_of(torch.stack(done.means).double().mean(1))  # (T,)
    quantiles = series.values_of(quantiles_of(torch.stack(done.drawn), params.quantiles))  # (Q, T)
    return ForecastChunk(params, tuple(means.tolist()), tuple(tuple(line) for line in quantiles.tolist()))
