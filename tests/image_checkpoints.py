"""Tiny random checkpoints of the embedded image models, made in a second: same bytes every time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from services.families.diffusion import emoji_checkpoint
from services.families.diffusion.captions import Captions
from services.families.diffusion.model import Architecture, EmojiDenoiser
from services.families.gan.model import Generator, GeneratorConfig
from services.nn.classes import ImageClass
from services.nn.weights import save_model
from services.sources import write_manifest

EMOJI_SIZE, DIGIT_SIZE = 32, 16  # pixels a side
COLOURS, THINGS = ("red", "green", "blue"), ("heart", "square", "circle")
DIGITS = tuple("0123456789")
M = TypeVar("M", bound=nn.Module)


def make_emoji(folder: Path) -> None:
    """A text-conditional diffusion model of 32x32 RGB images."""
    captions = Captions.of(f"{colour} {thing}" for colour in COLOURS for thing in THINGS)
    architecture = Architecture(words=len(captions), width=64, depth=2, heads=2, modulation=64, caption_width=32)
    denoiser = _random(lambda: EmojiDenoiser(architecture), spread=0.08)
    emoji_checkpoint.save(folder, denoiser, captions)


def make_digits(folder: Path) -> None:
    """A class-conditional GAN of 16x16 RGB images."""
    classes = tuple(ImageClass(name=digit) for digit in DIGITS)
    config = GeneratorConfig(classes=classes, channels=3, base_size=4, widths=(16, 8), latent_size=8, style_size=8)
    save_model(_random(lambda: Generator(config), spread=0.3), config, folder)


MAKERS: Mapping[str, Callable[[Path], None]] = {"emoji": make_emoji, "digits": make_digits}


def image_checkpoint(kind: str, folder: Path) -> str:
    """Write a checkpoint of this kind, with its manifest, into the folder; return its source."""
    folder.mkdir(parents=True)
    MAKERS[kind](folder)
    write_manifest(folder, source=f"file://{folder}")
    return f"file://{folder}"


def _random(make: Callable[[], M], *, spread: float) -> M:
    """Every weight is drawn: layers that training starts at zero would make all pictures alike."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        module = make()
        for weight in module.parameters():
            weight.normal_(std=spread)
    return module
