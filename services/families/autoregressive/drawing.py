"""Owns clips in bulk, for measuring and for sheets: through the sampler that serves, so that they are what it draws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from services.engine.contract import FinishReason
from services.families.autoregressive.model import WaveNet, WaveNetConfig
from services.families.autoregressive.params import Turn, WaveParams
from services.families.autoregressive.sampler import WaveSampler, WaveState
from services.nn.audio import AudioChunk, row_audio
from services.nn.rng import derive_seed
from services.nn.weights import load_model

SEED = 20240601  # of what evaluations and sheets draw
_ROWS = 32  # at a time


def load_for_measuring(folder: Path) -> WaveNet:
    """In float32 on the CPU, as evaluations need it whatever serves it."""
    return load_model(WaveNet, WaveNetConfig, folder, dtype=torch.float32, device=torch.device("cpu"))


def draw_clips(model: WaveNet, labels: Sequence[int], *, temperature: float, seed: int = SEED) -> list[Tensor]:
    """A clip float32 (samples,) in [-1, 1] of each label, each with the seed of its place."""
    rows = [_one(model.config, label, derive_seed(seed, i), temperature) for i, label in enumerate(labels)]
    found: list[Tensor] = []
    for first in range(0, len(rows), _ROWS):
        found += _draw_batch(WaveSampler(model, _ROWS), rows[first : first + _ROWS])
    return found


def _one(config: WaveNetConfig, label: int, seed: int, temperature: float) -> WaveParams:
    output = row_audio("wav", config.rate, streamed=True, prompt_tokens=0)
    return WaveParams("sound", seed, [Turn(label, config.sounds[label].frames)], temperature, 0, output)


def _draw_batch(sampler: WaveSampler, rows: Sequence[WaveParams]) -> list[Tensor]:
    running = {i: sampler.start(params) for i, params in enumerate(rows)}
    pieces: list[list[AudioChunk]] = [[] for _ in rows]
    while running:
        for i, chunk in _step(sampler, running):
            pieces[i].append(chunk)
    clips = [np.concatenate([chunk.samples for chunk in of_row]) for of_row in pieces]
    return [torch.from_numpy(clip).float() / 32767 for clip in clips]


def _step(sampler: WaveSampler, running: dict[int, WaveState]) -> list[tuple[int, AudioChunk]]:
    """One step of all that run; those that end leave."""
    found: list[tuple[int, AudioChunk]] = []
    for i, output in zip(list(running), sampler.step(list(running.values())), strict=True):
        if output.finish_reason is FinishReason.ERROR or output.chunk is None:
            raise RuntimeError("the network's values are not finite")
        found.append((i, output.chunk))
        if output.finish_reason is not None:
            sampler.release(running.pop(i))
    return found
