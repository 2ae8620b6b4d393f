"""A tiny conditional generator with random weights, and data to train one on."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from services.families.gan.model import Generator, GeneratorConfig
from services.nn.classes import ImageClass
from services.nn.weights import save_model
from services.training.image_data import write_split
from shared.config.gan import GanModel

SHAPE = GeneratorConfig(
    classes=(
        ImageClass(name="0", words=("zero", "digit")),
        ImageClass(name="1", words=("one", "digit")),
        ImageClass(name="Food & Drink"),
    ),
    channels=1,
    base_size=4,
    widths=(16, 8),
    latent_size=12,
    style_size=10,
)


def make_generator(shape: GeneratorConfig = SHAPE, seed: int = 0) -> Generator:
    """Random weights, of a spread that makes images differ visibly."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = Generator(shape)
        for parameter in generator.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return generator.eval().requires_grad_(False)


def make_folder(folder: Path, shape: GeneratorConfig = SHAPE) -> Path:
    save_model(make_generator(shape), shape, folder)
    return folder


def tiny_config(folder: Path, **options: object) -> GanModel:
    return GanModel.model_validate({"id": "tiny-gan", "source": f"file://{folder}", **options})


def make_classes(count: int, side: int = 16) -> list[Tensor]:
    """Three classes that a small network tells apart: a bright left half, right half or top, with noise."""
    draws = torch.Generator().manual_seed(0)
    classes: list[Tensor] = []
    for label in range(3):
        images = torch.randint(0, 60, (count, 1, side, side), generator=draws)
        half = [images[..., : side // 2], images[..., side // 2 :], images[..., : side // 2, :]][label]
        half += 150
        classes.append(images.to(torch.uint8))
    return classes


def make_data(folder: Path, count: int = 60) -> Path:
    write_split(folder, make_classes(count))
    return folder
