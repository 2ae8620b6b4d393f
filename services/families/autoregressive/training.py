"""Owns the learning of clips: a network, the likelihood of every sample and end, held-out bits. Knows no data set."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from services.families.autoregressive.clips import ClipSet, collated, resampled
from services.families.autoregressive.model import Clips, WaveNet, WaveNetConfig, log_likelihood
from services.families.autoregressive.mulaw import CODES
from services.training.recipe import Phase

_END_WEIGHT = 20.0  # an end is one event among thousands of samples
_ROWS = 4  # clips that are measured at a time
_ALTERED_SEED = 20240601


@dataclass(frozen=True, slots=True)
class Course:
    """How a network is trained, besides the schedule. `speed` and `gain_db`: the farthest that a clip is altered.

    `noise`: the most that codes, as they are read, are off by, as a standard deviation. What is to be told is never
    noisy: the network learns to go on from what it has drawn itself.
    """

    learning_rate: float
    speed: float
    gain_db: float
    noise: float
    weight_decay: float = 1e-2


class Batch(NamedTuple):
    """Clips, and the codes that the network hears in place of theirs."""

    codes: Tensor
    frames: Tensor
    labels: Tensor
    heard: Tensor


class WaveTraining:
    """Implements `services.training.recipe.Training`: maximum likelihood, a sample's mean."""

    averaged: Sequence[str] = ("model",)

    def __init__(
        self,
        config: WaveNetConfig,
        course: Course,
        train: ClipSet,
        held_out: ClipSet,
        sheet: Callable[[WaveNet], Image.Image],
        seed: int,
    ) -> None:
        with torch.random.fork_rng(devices=[]):  # modules draw their first weights from torch's own generator
            torch.manual_seed(seed)
            self._model = WaveNet(config)
        self._course, self._train, self._held_out, self._sheet = course, train, held_out, sheet
        self.phases: Sequence[Phase] = (
            Phase("likelihood", ("model",), learning_rate=course.learning_rate, weight_decay=course.weight_decay),
        )

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"model": self._model}

    @property
    def examples(self) -> int:
        return len(self._train)

    def batch(self, indices: Tensor, generator: torch.Generator) -> Batch:
        chosen = self._train.take(indices.tolist())
        clips = altered(chosen, self._model.config, self._course, generator)
        spread = torch.rand(len(clips.codes), 1, generator=generator) * self._course.noise
        noise = torch.randn(clips.codes.shape, generator=generator) * spread
        return Batch(*clips, (clips.codes + noise.round().long()).clamp(0, CODES - 1))

    def loss(
        self, phase: str, modules: Mapping[str, nn.Module], batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        """In nats a sample; ends count more than their likelihood would."""
        codes, frames, labels, heard = batch
        logits = modules["model"](Clips(codes, frames, labels), heard)
        count, longest = len(codes), logits.end.shape[1] - 1
        at = torch.arange(longest + 1, device=frames.device)[None]
        true = at[:, :-1] < frames[:, None]
        told = codes.view(count, longest, -1)[true].flatten()
        samples = functional.cross_entropy(logits.codes.flatten(0, 1), told)
        ends = functional.binary_cross_entropy_with_logits(
            logits.end, (at == frames[:, None]).to(logits.end.dtype), reduction="none"
        )
        end = (ends * (at <= frames[:, None])).sum() / len(told)
        bits = {"bits_per_sample": samples.item() / math.log(2), "end": end.item()}
        return samples + _END_WEIGHT * end, bits

    def validate(self, modules: Mapping[str, nn.Module]) -> Mapping[str, float]:
        """Bits that a sample of held-out clips takes."""
        return {"metric": bits_per_sample(cast(WaveNet, modules["model"]), self._held_out)}

    def sample(self, modules: Mapping[str, nn.Module]) -> Image.Image:
        return self._sheet(cast(WaveNet, modules["model"]))


def altered(clips: ClipSet, config: WaveNetConfig, course: Course, generator: torch.Generator) -> Clips:
    """Each clip played faster or slower and louder or softer, by draws of the generator."""
    draws = torch.rand(len(clips), 2, generator=generator) * 2 - 1
    changed: list[Tensor] = []
    for clip, label, (speed, gain) in zip(clips.clips, clips.labels, draws.tolist(), strict=True):
        longest = config.sounds[label].frames * config.frame
        length = min(round(len(clip) * (1 + course.speed * speed)), longest)
        out = resampled(clip, length) if length != len(clip) else clip
        changed.append((out * 10 ** (course.gain_db * gain / 20)).clamp(-1, 1))
    return collated(changed, clips.labels, config.frame)


def altered_set(clips: ClipSet, config: WaveNetConfig, course: Course) -> list[Clips]:
    """A fixed alteration of each clip that no training draws."""
    generator = torch.Generator().manual_seed(_ALTERED_SEED)
    return [altered(clips.take([i]), config, course, generator) for i in range(len(clips))]


def bits_per_sample(model: WaveNet, clips: ClipSet) -> float:
    """Bits that a sample takes in the mean, the ends' included."""
    order = sorted(range(len(clips)), key=lambda i: len(clips.clips[i]))
    parts = [clips.take(order[first : first + _ROWS]) for first in range(0, len(order), _ROWS)]
    return bits_of(model, [collated(part.clips, part.labels, model.config.frame) for part in parts])


@torch.inference_mode()
def bits_of(model: WaveNet, batches: Sequence[Clips]) -> float:
    """The same, of clips that are codes already."""
    nats = sum(log_likelihood(model, clips).sum().item() for clips in batches)
    samples = sum(int(clips.frames.sum()) * model.config.frame for clips in batches)
    return -nats / samples / math.log(2)
