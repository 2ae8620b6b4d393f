"""A tiny flow of images with random weights, and data to train one on."""

from __future__ import annotations

import base64
from pathlib import Path

import torch
from torch import Tensor

from services.families.flow.details import DetailConfig
from services.families.flow.model import ImageFlow, ImageFlowConfig
from services.families.flow.tasks import GIVEN_CLASS, METRIC
from services.families.flow.vectors import SplineConfig
from services.nn.classes import ImageClass
from services.nn.images import Writing, encode_image
from services.nn.percentiles import write_known
from services.nn.weights import save_model
from services.training.image_data import write_split
from shared.config.flow import ImageFlowModel

SIDE = 8
SCALE = DetailConfig(width=6, couplings=4)
SHAPE = ImageFlowConfig(
    classes=(
        ImageClass(name="0", words=("zero", "digit")),
        ImageClass(name="1", words=("one", "digit")),
        ImageClass(name="Food & Drink"),
    ),
    side=SIDE,
    scales=(SCALE, SCALE),
    alpha=0.05,
    coarse=SplineConfig(couplings=3, hidden=(12,), bins=4),
)


def make_flow(shape: ImageFlowConfig = SHAPE, seed: int = 0) -> ImageFlow:
    """Random weights, of a spread that makes images differ visibly."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        flow = ImageFlow(shape)
        for parameter in flow.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return flow.eval().requires_grad_(False)


def make_folder(folder: Path, shape: ImageFlowConfig = SHAPE) -> Path:
    """A model's folder, with percentiles of likelihoods around those of noise."""
    save_model(make_flow(shape), shape, folder)
    known = torch.linspace(-1000, 0, 51)
    write_known(folder, {METRIC: (known, known - 200), GIVEN_CLASS: (known + 200, known)})
    return folder


def tiny_config(folder: Path, **options: object) -> ImageFlowModel:
    entry = {"id": "tiny-flow", "kind": "image", "source": f"file://{folder}", **options}
    return ImageFlowModel.model_validate(entry)


def make_classes(count: int) -> list[Tensor]:
    """Three classes: a bright left half, right half or top on black, with noise."""
    draws = torch.Generator().manual_seed(0)
    classes: list[Tensor] = []
    for label in range(3):
        images = torch.randint(0, 20, (count, 1, SIDE, SIDE), generator=draws)
        half = [images[..., : SIDE // 2], images[..., SIDE // 2 :], images[..., : SIDE // 2, :]][label]
        half += 180
        classes.append(images.to(torch.uint8))
    return classes


def make_data(folder: Path, count: int = 60) -> Path:
    write_split(folder, make_classes(count))
    return folder


def some_images(count: int, seed: int = 0) -> Tensor:
    """uint8 (N, 1, SIDE, SIDE) of noise."""
    shape = (count, 1, SIDE, SIDE)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def data_url(pixels: Tensor) -> str:
    """Of uint8 (1, H, W)."""
    png = encode_image(pixels.permute(1, 2, 0).numpy(), Writing("png", 90))
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


IMAGES = some_images(2)
IMAGE, OTHER = data_url(IMAGES[0]), data_url(IMAGES[1])
WIDE = data_url(torch.zeros(1, SIDE, 2 * SIDE, dtype=torch.uint8))
