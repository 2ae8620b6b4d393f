"""Owns the chains' steps: rows at their own sweep, of their own number, temperature, class and seed, share gradients.

A step takes a few Langevin sweeps of every row, and ends earlier for a row that is done or owes a preview. All is
computed on copies of the rows' progress, and committed at the end. Rows that ask for a score take one pass.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.engine.contract import FinishReason, Preview, StepOutput
from services.families.ebm.langevin import Sweep
from services.families.ebm.model import EnergyNet
from services.families.ebm.params import ChainParams, Params, ScoreParams
from services.families.ebm.scoring import EnergyPass, ScoreChunk
from services.nn.device import device_errors
from services.nn.images import ImageChunk, to_pixels
from services.nn.one_shot import one_pass
from services.nn.rng import derive_seed, row_generator

Output = StepOutput[ImageChunk | Preview[ImageChunk] | ScoreChunk]


@dataclass(slots=True, eq=False)
class ChainRow:
    """A running chain: its sample (C, H, W) and how many sweeps it took. A step replaces both, and changes neither."""

    params: ChainParams
    x: Tensor
    done: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class ScoreRow:
    """A score before its pass."""

    params: ScoreParams


Row = ChainRow | ScoreRow


@dataclass(slots=True, eq=False)
class _Move:
    """A row's step in the making: it goes on until sweep `stop`. `clean`: what the sample seems to be without noise."""

    row: ChainRow
    stop: int
    x: Tensor
    done: int
    clean: Tensor

    @classmethod
    def of(cls, row: ChainRow, sweeps: int) -> _Move:
        whole = len(row.params.chain.sweeps)
        stops = [whole, row.done + sweeps, *(at for at in row.params.drawing.previews if at > row.done)]
        return cls(row, min(stops), row.x, row.done, row.x)

    def output(self) -> Output:
        units = float(self.done - self.row.done)
        if not (self.x.isfinite().all() and self.clean.isfinite().all()):
            return StepOutput(None, FinishReason.ERROR, units)
        params = self.row.params
        is_last = self.done == len(params.chain.sweeps)
        if not is_last and self.done not in params.drawing.previews:
            return StepOutput(None, None, units)
        (pixels,) = to_pixels(self.clean[None])
        if is_last:
            return StepOutput(params.drawing.chunk(pixels), FinishReason.STOP, units)
        return StepOutput(Preview(params.drawing.chunk(pixels, step=self.done)), None, units)


class EbmSampler:
    """Implements `services.engine.contract.Sampler`. The engine's thread alone calls it."""

    def __init__(self, net: EnergyNet, *, max_batch_size: int, sweeps_per_step: int) -> None:
        self.net = net
        self.rows: set[Row] = set()
        self.score = EnergyPass(net)
        self._max_batch_size, self._sweeps_per_step = max_batch_size, sweeps_per_step
        weight = next(net.parameters())
        # Samples are kept in full precision: small sweeps of many would be lost in half.
        self._device, self._dtype = weight.device, torch.promote_types(weight.dtype, torch.float32)

    @property
    def max_batch_size(self) -> int:
        return self._max_batch_size

    def batch_key(self, params: Params) -> Hashable:
        """Chains of every task, length, temperature and class share steps; scores have a pass of their own."""
        return type(params)

    def fits(self, params: Params, states: Sequence[Row]) -> bool:
        """A full batch is counted in the model's memory already, and no row takes more than another."""
        return len(states) < self._max_batch_size

    def start(self, params: Params) -> Row:
        if isinstance(params, ScoreParams):
            row: Row = ScoreRow(params)
        else:
            with device_errors():
                row = ChainRow(params, self._first(params))
        self.rows.add(row)
        return row

    def step(self, states: Sequence[Row]) -> list[Output]:
        chains = [state for state in states if isinstance(state, ChainRow)]
        if not chains:
            return list(one_pass(self.score, [state.params for state in states if isinstance(state, ScoreRow)]))
        with torch.no_grad(), device_errors():
            moves = [_Move.of(row, self._sweeps_per_step) for row in chains]
            for _ in range(self._sweeps_per_step):
                self._sweep([move for move in moves if move.done < move.stop])
            outputs = [move.output() for move in moves]
            for move in moves:
                move.row.x, move.row.done = move.x, move.done
        return outputs

    def release(self, state: Row) -> None:
        self.rows.remove(state)

    def _first(self, params: ChainParams) -> Tensor:
        """(C, H, W): the given image, or the mean one, with noise."""
        source = self.net.centre if params.source is None else params.source.float() / 127.5 - 1
        noise = _unit_noise(params.drawing.seed, self.net.centre.shape)
        return (source.float().cpu() + params.chain.start * noise).to(self._device, self._dtype)

    def _sweep(self, moves: Sequence[_Move]) -> None:
        """One Langevin sweep of every row, in one gradient."""
        if not moves:
            return
        x = torch.stack([move.x for move in moves])  # (B, C, H, W)
        labels = torch.tensor([move.row.params.label for move in moves], device=self._device)
        residual = self.net.residual(x.to(self.net.centre.dtype), labels).to(self._dtype)
        rates = torch.tensor([_line(move).rate for move in moves], device=self._device, dtype=self._dtype)
        noise = torch.stack([self._noise(move) for move in moves]).to(self._device, self._dtype)
        after = x - rates[:, None, None, None] * residual + noise
        clean = x - residual
        for i, move in enumerate(moves):
            move.x, move.clean, move.done = after[i], clean[i], move.done + 1

    def _noise(self, move: _Move) -> Tensor:
        """The sweep's noise (C, H, W): a function of seed and sweep, so that a step tried again draws the same."""
        params, shape = move.row.params, self.net.centre.shape
        scale = _line(move).noise * math.sqrt(params.temperature)
        if scale == 0:
            return torch.zeros(shape)
        return scale * _unit_noise(derive_seed(params.drawing.seed, move.done + 1), shape)


def _line(move: _Move) -> Sweep:
    return move.row.params.chain.sweeps[move.done]


def _unit_noise(seed: int, shape: torch.Size) -> Tensor:
    # float32 whatever the model computes in, so that a seed is the same picture in every precision.
    return torch.randn(shape, generator=row_generator(seed))
