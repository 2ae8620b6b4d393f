"""Owns the small sample of pictures beside the weights, and how the weights are scored on it within seconds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from services.families.diffusion import emoji_checkpoint
from services.families.diffusion.emoji_data import Emoji, Picture
from services.families.diffusion.emoji_flow import FixedDraws
from services.families.diffusion.emoji_sampling import draw
from services.families.diffusion.evaluation_pick import nearest

SAMPLE = "held_out.safetensors"
_TRAINED, _HELD_OUT = 16, 8  # pictures of each: 74 kB
_DRAWS, _DRAWN, _STEPS = 96, 10, 10


@dataclass(frozen=True, slots=True)
class SampleScore:
    """`loss`: of flow matching on fixed draws. `picked`: share of drawings that are nearest to the asked picture."""

    loss: float
    picked: float


def write_sample(folder: Path, emoji: Emoji) -> None:
    """Pictures that were trained on, evenly spaced, and held-out pairs: uint8 (24, 3, 32, 32) with their names."""
    trained, unseen = emoji.part(held_out=False), emoji.part(held_out=True)
    parts = (_spaced(trained, _TRAINED), _spaced(unseen, _HELD_OUT))
    pixels = torch.cat([(part.images + 1) * 127.5 for part in parts]).round().to(torch.uint8)
    names = [name for part in parts for name in part.names]
    (folder / SAMPLE).write_bytes(save({"images": pixels}, metadata={"names": json.dumps(names)}))


def read_sample(folder: Path) -> Emoji:
    """What `write_sample` wrote; pairs and aliases are not kept."""
    with safe_open(folder / SAMPLE, "pt") as file:
        names: list[str] = json.loads(file.metadata()["names"])
        pixels: Tensor = file.get_tensor("images")
    pictures = tuple(Picture(name, held_out=place >= _TRAINED) for place, name in enumerate(names))
    return Emoji(pictures, pixels.float() / 127.5 - 1)


def score_sample(folder: Path) -> SampleScore:
    """Score the weights of a folder on the sample beside them. Deterministic; seconds on one thread."""
    checkpoint, sample = emoji_checkpoint.load(folder), read_sample(folder)
    loss = FixedDraws.of(sample, checkpoint.captions, _DRAWS, seed=0).loss(checkpoint.denoiser)
    prompts = sample.part(held_out=False).names[:_DRAWN]
    drawn = draw(checkpoint.denoiser, checkpoint.captions, prompts, range(_DRAWN), steps=_STEPS)
    rows = nearest(drawn, sample.images.expand(_DRAWN, *sample.images.shape))
    picked = sum(sample.names[row] == prompt for row, prompt in zip(rows, prompts, strict=True))
    return SampleScore(loss, picked / _DRAWN)


def _spaced(emoji: Emoji, count: int) -> Emoji:
    return emoji.rows([place * len(emoji.pictures) // count for place in range(count)])
