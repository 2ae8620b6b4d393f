"""Owns the steps: rows at frames of their own, of their own sounds and temperatures, draw FRAMES frames each."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from services.engine.contract import FinishReason, StepOutput
from services.families.autoregressive.frames import DrawnFrames, FrameOrder, Heard, draw_frames, nothing_heard
from services.families.autoregressive.model import WaveNet
from services.families.autoregressive.mulaw import CODES, levels
from services.families.autoregressive.params import WaveParams
from services.nn.audio import AudioChunk, Samples
from services.nn.device import device_errors
from services.nn.rng import derive_seed, row_generator

FRAMES = 8  # a step


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """How far a row is: `at` frames of its `turn`-th sound are drawn, in `steps` steps."""

    turn: int
    at: int
    steps: int
    heard: Heard


@dataclass(slots=True, eq=False)
class WaveState:
    """A running row. A step replaces `progress` as a whole."""

    params: WaveParams
    progress: Progress


class WaveSampler:
    """Implements `services.engine.contract.Sampler`."""

    def __init__(self, model: WaveNet, max_batch_size: int) -> None:
        self.model = model
        self.running: set[WaveState] = set()
        self._max_batch_size = max_batch_size
        self._pcm = (levels() * 32767).round().short().numpy()

    @property
    def max_batch_size(self) -> int:
        return self._max_batch_size

    def batch_key(self, params: WaveParams) -> Hashable:
        """All share steps, whatever they draw."""
        return "frames"

    def fits(self, params: WaveParams, states: Sequence[WaveState]) -> bool:
        """A full batch is counted in the model's memory already, and no row takes more than another."""
        return len(states) < self._max_batch_size

    def start(self, params: WaveParams) -> WaveState:
        with device_errors():
            state = WaveState(params, Progress(0, 0, 0, nothing_heard(self.model)))
        self.running.add(state)
        return state

    def step(self, states: Sequence[WaveState]) -> list[StepOutput[AudioChunk]]:
        with torch.inference_mode(), device_errors():
            drawn = draw_frames(self.model, self._order(states))
            moves = [self._advance(state, new) for state, new in zip(states, drawn, strict=True)]
        for state, (progress, _) in zip(states, moves, strict=True):
            state.progress = progress
        return [output for _, output in moves]

    def release(self, state: WaveState) -> None:
        self.running.remove(state)

    def _order(self, states: Sequence[WaveState]) -> FrameOrder:
        """What each row's next frames are drawn from: by its seed and step alone, so that a retry is the same."""
        device = self.model.look.device
        rows = [(state.params, state.progress) for state in states]
        noise = [self._noise(*row) for row in rows]
        return FrameOrder(
            heard=[progress.heard for _, progress in rows],
            label=torch.tensor([params.turns[progress.turn].label for params, progress in rows], device=device),
            at=torch.tensor([progress.at for _, progress in rows], device=device),
            temperature=torch.tensor([params.temperature for params, _ in rows], dtype=self.model.look.dtype).to(
                device
            ),
            gumbel=torch.stack([gumbel for gumbel, _ in noise], dim=1).to(device),
            uniform=torch.stack([uniform for _, uniform in noise]).to(device),
        )

    def _noise(self, params: WaveParams, progress: Progress) -> tuple[Tensor, Tensor]:
        """Gumbel's noise (FRAMES, frame, 256) in the weights' dtype; float64 (FRAMES,) in [0, 1).

        A sound has a frame at least: none ends before its first.
        """
        generator = row_generator(derive_seed(params.seed, progress.steps))
        uniform = torch.rand(FRAMES, dtype=torch.float64, generator=generator)
        if progress.at == 0:
            uniform[0] = 1.0
        # Drawn in one precision, so that a row has the same noise in every other.
        waits = torch.empty(FRAMES, self.model.config.frame, CODES).exponential_(generator=generator)
        return waits.log_().neg_().to(self.model.look.dtype), uniform

    def _advance(self, state: WaveState, drawn: DrawnFrames) -> tuple[Progress, StepOutput[AudioChunk]]:
        """A row's progress after its new frames, and what it gives."""
        params, before = state.params, state.progress
        if not drawn.finite:
            return before, StepOutput(None, FinishReason.ERROR, 1.0)
        left = params.turns[before.turn].frames - before.at
        made = min(drawn.ended_at, left, FRAMES)
        samples = self._pcm[drawn.codes[:made].flatten().numpy()]
        # A sound is over where it ends, or may go on no more: the frame at which that is seen is not drawn.
        if drawn.ended_at == FRAMES and left > FRAMES:
            after = Progress(before.turn, before.at + made, before.steps + 1, drawn.heard)
            return after, StepOutput(self._chunk(params, samples, last=False), None, float(made))
        if before.turn + 1 < len(params.turns):
            samples = np.concatenate([samples, np.zeros(params.gap, np.int16)])
            after = Progress(before.turn + 1, 0, before.steps + 1, nothing_heard(self.model))
            return after, StepOutput(self._chunk(params, samples, last=False), None, float(made))
        reason = FinishReason.STOP if drawn.ended_at <= left and drawn.ended_at < FRAMES else FinishReason.LENGTH
        # A sound that ended just before these frames has nothing in them, but its row did work.
        return before, StepOutput(self._chunk(params, samples, last=True), reason, float(max(made, 1)))

    def _chunk(self, params: WaveParams, samples: Samples, *, last: bool) -> AudioChunk:
        return AudioChunk(samples, self.model.config.rate, params.seed, last, params.output)
