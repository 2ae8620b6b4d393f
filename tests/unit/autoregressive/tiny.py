"""Models too small to have learnt anything, and rows for them."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from services.families.autoregressive.clips import ClipSet
from services.families.autoregressive.model import Sound, WaveNet, WaveNetConfig
from services.families.autoregressive.params import Turn, WaveParams
from services.nn.audio import row_audio
from services.nn.weights import save_model
from shared.config.autoregressive import WaveSoundModel, WaveSpeechModel

SOUNDS = (
    Sound(name="a", frames=20),
    Sound(name="1", words=("one",), frames=60),
    Sound(name="2", words=("two", "a pair"), frames=40),
)
WORDS = WaveNetConfig(
    kind="speech",
    voice="ann",
    sounds=SOUNDS,
    rate=8000,
    frame=4,
    channels=8,
    skipped=6,
    hidden=10,
    window=6,
    features=3,
    place=4,
    stride=8,
    dilations=(1, 2, 4, 16),
)
DRUMS = WORDS.model_copy(update={"kind": "sound", "voice": ""})


def make_model(config: WaveNetConfig = WORDS, *, end: float = -4.0, seed: int = 0) -> WaveNet:
    """With random weights that count: codes depend on what was heard. `end` is the ends' bias."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = WaveNet(config)
        for parameter in model.parameters():
            parameter.data += 0.2 * torch.randn(parameter.shape)
    model.end.bias.data.fill_(end)
    return model.eval().requires_grad_(False)


def params(seed: int, *labels: int, temperature: float = 1.0, gap: int = 5, frames: int | None = None) -> WaveParams:
    """A row of these sounds; `frames` bounds each below what it may have."""
    turns = [Turn(label, SOUNDS[label].frames if frames is None else frames) for label in labels]
    return WaveParams("speech", seed, turns, temperature, gap, row_audio("wav", 8000, streamed=True, prompt_tokens=1))


def make_folder(folder: Path, config: WaveNetConfig) -> Path:
    save_model(make_model(config), config, folder)
    return folder


def speech_config(folder: Path, **options: object) -> WaveSpeechModel:
    fields = {"id": "tiny-words", "source": f"file://{folder}", "kind": "speech", **options}
    return WaveSpeechModel.model_validate(fields)


def sound_config(folder: Path, **options: object) -> WaveSoundModel:
    fields = {"id": "tiny-drums", "source": f"file://{folder}", "kind": "sound", **options}
    return WaveSoundModel.model_validate(fields)


def make_clips() -> ClipSet:
    """Two tones and two noises that fade, each held out once."""
    time = torch.arange(600) / 8000
    fade = torch.exp(-time * 30)
    noise = torch.randn(2, 600, generator=torch.Generator().manual_seed(0)) * 0.3
    tones = [torch.sin(time * 2 * math.pi * pitch) * 0.8 for pitch in (300, 320)]
    clips = [sound * fade for sound in (*tones, *noise)]
    return ClipSet(clips, [0, 0, 1, 1], [False, True, False, True])
