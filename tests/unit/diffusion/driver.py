"""Runs rows through a checkpoint's sampler without an engine, in float64 unless told otherwise; keeps every sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from services.engine.contract import FinishReason, Preview
from services.families.diffusion import emoji_checkpoint
from services.families.diffusion.captions import Captions
from services.families.diffusion.denoiser import Checkpoint
from services.families.diffusion.family import read_checkpoint
from services.families.diffusion.model import Architecture, EmojiDenoiser
from services.families.diffusion.params import ImageParams
from services.families.diffusion.sampler import DiffusionSampler, SamplerLimits
from services.families.diffusion.state import RowState
from services.families.diffusion.tasks import Drawing
from services.nn.images import ImageChunk

CPU = torch.device("cpu")
WORDS = ("apple", "blue", "circle", "green", "heart", "red", "square")


def make_emoji_checkpoint(folder: Path, *, seed: int = 0) -> Path:
    """The embedded model's folder with a tiny random network that heeds image, time and caption alike."""
    captions = Captions(WORDS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        architecture = Architecture(
            words=len(captions), image_size=16, patch=4, width=16, depth=2, heads=2, modulation=16, caption_width=8
        )
        model = EmojiDenoiser(architecture)
        for parameter in model.parameters():  # a fresh one is the identity
            nn.init.normal_(parameter, std=0.3)
    emoji_checkpoint.save(folder, model, captions)
    return folder


@dataclass(frozen=True)
class Model:
    checkpoint: Checkpoint
    drawing: Drawing

    def sampler(self, *, max_batch_size: int = 8) -> DiffusionSampler:
        limits = SamplerLimits(max_batch_size, memory=1 << 40)
        return DiffusionSampler(self.checkpoint.denoiser, self.checkpoint.canvas.factor, limits)


def load_folder(folder: Path, dtype: torch.dtype = torch.float64, *, max_pixels: int = 64 * 64) -> Model:
    with torch.inference_mode():
        checkpoint = read_checkpoint(folder, dtype, CPU)
    return Model(checkpoint, Drawing("tiny", checkpoint, checkpoint.defaults, max_pixels))


@dataclass
class Trace:
    """What one row gave. `samples`: its sample (C, H, W) after each step that it took."""

    samples: list[Tensor] = field(default_factory=list[Tensor])
    previews: list[ImageChunk] = field(default_factory=list[ImageChunk])
    image: ImageChunk | None = None
    reason: FinishReason | None = None
    units: float = 0.0

    @property
    def pixels(self) -> Tensor:
        assert self.image is not None, f"the row ended with {self.reason}"
        return torch.from_numpy(self.image.pixels)


def run(sampler: DiffusionSampler, rows: Sequence[ImageParams], *, noise: Tensor | None = None) -> list[Trace]:
    """Step all rows together to their ends. `noise` (C, H, W), if given, is what each of them starts from."""
    states = [sampler.start(params) for params in rows]
    if noise is not None:
        for state in states:
            state.noise = noise
    traces = [Trace() for _ in rows]
    for _ in range(10_000):
        live = [(state, trace) for state, trace in zip(states, traces, strict=True) if trace.reason is None]
        if not live:
            break
        _step(sampler, live)
    for state in states:
        sampler.release(state)
    return traces


def _step(sampler: DiffusionSampler, live: Sequence[tuple[RowState, Trace]]) -> None:
    for output, (state, trace) in zip(sampler.step([state for state, _ in live]), live, strict=True):
        trace.units += output.units
        trace.reason = output.finish_reason
        if len(trace.samples) < state.progress.step and state.progress.x is not None:
            trace.samples.append(state.progress.x.clone())
        if isinstance(output.chunk, Preview):
            trace.previews.append(output.chunk.chunk)
        elif output.chunk is not None:
            trace.image = output.chunk
