"""Owns the steps: each running row takes the next part of its sentence, which is read, sketched, then made sound of.

A step is a bounded piece of a sentence and not all of it, so that a long one delays no other row by its length, and
its first sound is heard before its last is made.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from services.engine.contract import FinishReason, StepOutput
from services.families.vits.network import Floats, Manner, Reading, VoiceNetwork
from services.families.vits.params import WINDOW, SpeechParams
from services.families.vits.voice import VoiceConfig
from services.nn.audio import AudioChunk, Samples
from services.nn.rng import derive_seed, row_generator

_BEFORE = 0.15  # of a sentence's work is its reading, and as much its sketch; the sound is the rest
_MOST_FRAMES = 64  # of a phoneme at speed 1, over a sentence: what is longer is no speech


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """Where a row is: in which sentence, what of it is there, and how many of its frames have sounded."""

    sentence: int = 0
    reading: Reading | None = None
    latent: Floats | None = None  # (1, channels, frames)
    at: int = 0


@dataclass(slots=True, eq=False)
class SpeechState:
    """A running row. A step replaces `progress` as a whole."""

    params: SpeechParams
    progress: Progress


class SpeechSampler:
    """Implements `services.engine.contract.Sampler`."""

    def __init__(self, network: VoiceNetwork, voice: VoiceConfig, max_batch_size: int) -> None:
        self.network, self.voice = network, voice
        self.running: set[SpeechState] = set()
        self._max_batch_size = max_batch_size

    @property
    def max_batch_size(self) -> int:
        return self._max_batch_size

    def batch_key(self, params: SpeechParams) -> Hashable:
        """All share steps, whatever they say."""
        return "speech"

    def fits(self, params: SpeechParams, states: Sequence[SpeechState]) -> bool:
        """A full batch is counted in the model's memory already, and a sentence's length is bounded."""
        return len(states) < self._max_batch_size

    def start(self, params: SpeechParams) -> SpeechState:
        state = SpeechState(params, Progress())
        self.running.add(state)
        return state

    def step(self, states: Sequence[SpeechState]) -> list[StepOutput[AudioChunk]]:
        moves = [self._advance(state.params, state.progress) for state in states]
        for state, (progress, _) in zip(states, moves, strict=True):
            state.progress = progress
        return [output for _, output in moves]

    def release(self, state: SpeechState) -> None:
        self.running.remove(state)

    def _advance(self, params: SpeechParams, now: Progress) -> tuple[Progress, StepOutput[AudioChunk]]:
        """A row's next progress, and what it gives. By its own parameters and progress alone."""
        sentence, manner = params.sentences[now.sentence], self._manner(params)
        work = _BEFORE * params.cost_of(sentence)
        if now.reading is None:
            noise = _noise(params.seed, 2 * now.sentence, (1, 2, len(sentence.ids)))
            reading = self.network.read(sentence.ids, manner, noise)
            if not 0 < reading.frames <= _MOST_FRAMES * params.cost_of(sentence):
                return now, StepOutput(None, FinishReason.ERROR, work)
            return replace(now, reading=reading), StepOutput(None, None, work)
        if now.latent is None:
            noise = _noise(params.seed, 2 * now.sentence + 1, now.reading.shape)
            latent = self.network.sketch(now.reading, manner, noise)
            return replace(now, latent=latent), StepOutput(None, None, work)
        return self._sound(params, now, now.latent)

    def _sound(self, params: SpeechParams, now: Progress, latent: Floats) -> tuple[Progress, StepOutput[AudioChunk]]:
        """The next WINDOW frames of the sentence, and after its last the silence."""
        frames = latent.shape[-1]
        end = min(now.at + WINDOW, frames)
        heard = self.network.sound(latent, now.at, end)
        work = (1 - 2 * _BEFORE) * params.cost_of(params.sentences[now.sentence]) * (end - now.at) / frames
        if not np.isfinite(heard).all():
            return now, StepOutput(None, FinishReason.ERROR, work)
        samples: Samples = (heard.clip(-1, 1) * 32767).round().astype(np.int16)
        if end < frames:
            return replace(now, at=end), StepOutput(self._chunk(params, samples, last=False), None, work)
        samples = np.concatenate([samples, np.zeros(params.sentences[now.sentence].silence, np.int16)])
        if now.sentence + 1 < len(params.sentences):
            after = Progress(now.sentence + 1)
            return after, StepOutput(self._chunk(params, samples, last=False), None, work)
        return now, StepOutput(self._chunk(params, samples, last=True), FinishReason.STOP, work)

    def _manner(self, params: SpeechParams) -> Manner:
        usual = self.voice.inference
        return Manner(
            usual.noise_scale * params.temperature,
            usual.length_scale / params.speed,
            usual.noise_w * params.temperature,
        )

    def _chunk(self, params: SpeechParams, samples: Samples, *, last: bool) -> AudioChunk:
        return AudioChunk(samples, self.voice.audio.sample_rate, params.seed, last, params.output)


def _noise(seed: int, index: int, shape: tuple[int, ...]) -> Floats:
    """By the seed and the place alone, so that a step that is taken again draws the same."""
    return torch.randn(shape, generator=row_generator(derive_seed(seed, index))).numpy()
