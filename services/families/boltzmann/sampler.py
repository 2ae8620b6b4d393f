"""Owns the chains' steps: rows at their own sweep, of their own number, temperature, class and seed share matrices.

A step makes some sweeps of block Gibbs; a row that is due makes fewer. All is computed on copies of the rows' progress,
generators included, and committed at the end. That a row in a batch is the row alone, to the last bit, is by
construction: what units are drawn from are sums that float32 holds exactly (`services.families.boltzmann.model.GRID`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from services.engine.contract import FinishReason, Preview, StepOutput
from services.families.boltzmann.model import Machine
from services.families.boltzmann.params import ChainParams, RowParams
from services.families.boltzmann.passes import grey
from services.families.boltzmann.reading import Reader
from services.families.boltzmann.state import ChainState, Progress, thresholds
from services.nn.device import device_errors
from services.nn.one_shot import OneShotRow, Pass, one_pass
from services.nn.rng import row_generator

SWEEPS_A_STEP = 10
MAX_PASS_COST = 400  # of the rows that one pass takes: a pseudo-likelihood of all pixels is slow, and others wait
_CHAIN = "chain"

RowState = ChainState | OneShotRow[Any]
Output = StepOutput[Any]


@dataclass(slots=True, eq=False)
class _Move:
    """A chain's step in the making: `means` (D,) of the pixels are there when an image is due."""

    state: ChainState
    progress: Progress
    sweeps: int
    is_finite: bool = True
    means: Tensor | None = None

    @property
    def params(self) -> ChainParams:
        return self.state.params

    def output(self) -> Output:
        if not self.is_finite:
            return StepOutput(None, FinishReason.ERROR, float(self.sweeps))
        if self.means is None:
            return StepOutput(None, None, float(self.sweeps))
        chunk = self.params.chunk(grey(self.means[None])[0], self.progress.sweep)
        if self.progress.sweep < self.params.sweeps:
            return StepOutput(Preview(chunk), None, float(self.sweeps))
        return StepOutput(chunk, FinishReason.STOP, float(self.sweeps))


class BoltzmannSampler:
    """Implements `services.engine.contract.Sampler`. `passes` answer the tasks that need no chain, by task."""

    def __init__(
        self,
        machine: Machine,
        reader: Reader,
        passes: Mapping[str, Pass[Any, Any]],
        max_batch_size: int,
        sweeps_a_step: int = SWEEPS_A_STEP,
    ) -> None:
        self.energy, self.base = machine.energy, machine.base
        self.reader, self.passes = reader, dict(passes)
        self.rows: set[RowState] = set()
        self._visible = machine.config.visible
        self._max_batch_size, self._sweeps_a_step = max_batch_size, sweeps_a_step

    @property
    def max_batch_size(self) -> int:
        return self._max_batch_size

    def batch_key(self, params: RowParams) -> Hashable:
        """Chains share steps whatever they are of; a reconstruction without a chain is a pass."""
        return _CHAIN if isinstance(params, ChainParams) else params.task

    def fits(self, params: RowParams, states: Sequence[RowState]) -> bool:
        """A full batch is counted in the model's memory already; a pass takes rows of so much cost in all, or one."""
        if len(states) >= self._max_batch_size:
            return False
        passing = [state.params.cost for state in states if isinstance(state, OneShotRow)]
        return isinstance(params, ChainParams) or not passing or sum(passing) + params.cost <= MAX_PASS_COST

    def start(self, params: RowParams) -> RowState:
        row: RowState = OneShotRow(params)
        if isinstance(params, ChainParams):
            with torch.inference_mode(), device_errors():
                row = self._chain(params)
        self.rows.add(row)
        return row

    def _chain(self, params: ChainParams) -> ChainState:
        """At independent units, drawn by how often each is on; where there is an image, at the image."""
        generator = row_generator(params.seed)
        limits = thresholds(generator, self.base.shape[1:], 1.0).to(self.base)
        even = (self.base[params.label or 0] > limits).to(self.base)
        known = torch.zeros_like(even, dtype=torch.bool)
        if params.origin is None:
            return ChainState(params, known, Progress(0, even, params.label, generator))
        given = params.origin.visible.to(even)
        if params.origin.known is None:
            even[: self._visible] = given
            return ChainState(params, known, Progress(0, even, None, generator))
        known[: self._visible] = params.origin.known.to(known)
        even[: self._visible] = torch.where(known[: self._visible], given, even[: self._visible])
        return ChainState(params, known, Progress(0, even, params.label, generator))

    def step(self, states: Sequence[RowState]) -> list[Output]:
        chains = [state for state in states if isinstance(state, ChainState)]
        if not chains:
            rows = [state.params for state in states if isinstance(state, OneShotRow)]
            return one_pass(self.passes[rows[0].task], rows)
        with torch.inference_mode(), device_errors():
            moves = [self._move(state) for state in chains]
            self._read([move for move in moves if move.progress.label is None])
            self._sweep(moves)
            outputs = [move.output() for move in moves]
            for move in moves:
                move.state.progress = move.progress
        return outputs

    def release(self, state: RowState) -> None:
        self.rows.remove(state)

    def _move(self, state: ChainState) -> _Move:
        """A step ends where an image of the row is due, so that what is drawn does not depend on previews."""
        now, params = state.progress, state.params
        due = min(sweep for sweep in (*params.previews, params.sweeps) if sweep > now.sweep)
        copy = replace(now, generator=now.generator.clone_state())
        return _Move(state, copy, min(self._sweeps_a_step, due - now.sweep))

    def _read(self, moves: Sequence[_Move]) -> None:
        """Chains that start from a whole image: its class, unless one is asked for, and its top units."""
        if not moves:
            return
        reading = self.reader.read(torch.stack([move.progress.even[: self._visible] for move in moves]))
        likeliest = reading.posterior.argmax(1).tolist()
        for index, move in enumerate(moves):
            label = likeliest[index] if move.params.label is None else move.params.label
            even, top = move.progress.even.clone(), reading.top[index, label]
            chance = torch.rand(top.shape, generator=move.progress.generator)
            even[self._visible :] = (top > chance.to(top)).to(even)
            move.progress = replace(move.progress, even=even, label=label)

    def _sweep(self, moves: Sequence[_Move]) -> None:
        """As many sweeps of every row as it moves on by, together."""
        limits = self._thresholds(moves)  # (B, sweeps, H + E)
        hidden = self.energy.weight.shape[1]
        labels = torch.tensor([move.progress.label for move in moves], device=limits.device)
        known = torch.stack([move.state.known for move in moves])
        even = torch.stack([move.progress.even for move in moves])
        log_odds = torch.zeros_like(even)
        lengths = torch.tensor([move.sweeps for move in moves], device=limits.device)[:, None]
        for i in range(limits.shape[1]):
            odd = (self.energy.odd_input(even, labels) > limits[:, i, :hidden]).to(even)
            inputs = self.energy.even_input(odd, labels)
            drawn = torch.where(known, even, (inputs > limits[:, i, hidden:]).to(even))
            goes = lengths > i  # (B, 1)
            even, log_odds = torch.where(goes, drawn, even), torch.where(goes, inputs, log_odds)
        finite = log_odds.isfinite().all(dim=1).tolist()
        for i, move in enumerate(moves):
            move.is_finite = finite[i]
            move.progress = replace(move.progress, sweep=move.progress.sweep + move.sweeps, even=even[i])
            if move.progress.sweep in (*move.params.previews, move.params.sweeps):
                move.means = self._means(move, log_odds[i])

    def _means(self, move: _Move, log_odds: Tensor) -> Tensor:
        """(D,): each pixel's chance to be on at the last sweep, and what is known as it is."""
        means = torch.sigmoid(log_odds[: self._visible] / move.params.temperature)
        known = move.state.known[: self._visible]
        return torch.where(known, move.progress.even[: self._visible], means)

    def _thresholds(self, moves: Sequence[_Move]) -> Tensor:
        """(B, sweeps, H + E): of rows that move on by less than others, the last are of no account."""
        units = self.energy.weight.shape[1] + self.energy.weight.shape[0]
        drawn = torch.zeros(len(moves), max(move.sweeps for move in moves), units)
        for row, move in zip(drawn, moves, strict=True):
            row[: move.sweeps] = thresholds(move.progress.generator, (move.sweeps, units), move.params.temperature)
        return drawn.to(self.energy.weight)
