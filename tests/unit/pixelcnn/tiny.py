"""Tiny models with random weights, and data to train one on."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from services.families.pixelcnn.model import GatedPixelCnn, PixelCnnConfig
from services.families.pixelcnn.sokoban import Tile, parse_level
from services.nn.classes import ImageClass
from services.nn.weights import save_model
from services.training.image_data import write_split
from shared.config.pixelcnn import PixelCnnImageModel, PixelCnnLevelModel

SIDE = 6
IMAGES = PixelCnnConfig(
    kind="image",
    classes=(
        ImageClass(name="0", words=("zero", "digit")),
        ImageClass(name="1", words=("one", "digit")),
        ImageClass(name="Food & Drink"),
    ),
    values=4,
    height=SIDE,
    width=SIDE,
    features=6,
    dilations=(1, 2),
)
LEVELS = PixelCnnConfig(kind="level", values=len(Tile), height=5, width=5, features=6, counted=3, dilations=(1, 2))


def level(*lines: str) -> Any:
    return parse_level("\n".join(lines))


# One push solves it.
EASY = level(
    "#####",
    "#@$.#",
    "#####",
)


def make_model(config: PixelCnnConfig = IMAGES, seed: int = 0, spread: float = 0.6) -> GatedPixelCnn:
    """Random weights, of a spread that makes distributions differ visibly."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GatedPixelCnn(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=spread)
    return model.eval().requires_grad_(False)


def make_folder(folder: Path, config: PixelCnnConfig = IMAGES) -> Path:
    save_model(make_model(config), config, folder)
    return folder


def image_config(folder: Path, **options: object) -> PixelCnnImageModel:
    fields = {"id": "tiny-pixelcnn", "source": f"file://{folder}", "kind": "image", **options}
    return PixelCnnImageModel.model_validate(fields)


def level_config(folder: Path, **options: object) -> PixelCnnLevelModel:
    fields = {"id": "tiny-levels", "source": f"file://{folder}", "kind": "level", **options}
    return PixelCnnLevelModel.model_validate(fields)


def data_url(pixels: Any) -> str:
    """A PNG of uint8 pixels (H, W) or (H, W, C)."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def some_pixels(seed: int = 0, side: int = SIDE) -> Any:
    """Grey uint8 (side, side), of all 256 levels."""
    return np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)


def make_classes(count: int, side: int = 8) -> list[Tensor]:
    """Three classes that a small network tells apart: a bright left half, right half or top, with noise."""
    draws = torch.Generator().manual_seed(0)
    classes: list[Tensor] = []
    for label in range(3):
        images = torch.randint(0, 60, (count, 1, side, side), generator=draws)
        half = [images[..., : side // 2], images[..., side // 2 :], images[..., : side // 2, :]][label]
        half += 150
        classes.append(images.to(torch.uint8))
    return classes


def make_data(folder: Path, count: int = 40, side: int = 8) -> Path:
    write_split(folder, make_classes(count, side))
    return folder
