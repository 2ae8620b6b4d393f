"""A tiny energy with random weights, pictures to ask about, and data to train one on."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from services.families.ebm.model import EnergyConfig, EnergyNet
from services.nn.classes import ImageClass
from services.nn.weights import save_model
from services.training.image_data import write_split
from shared.config.ebm import EbmModel

SIDE = 16
SHAPE = EnergyConfig(
    classes=(
        ImageClass(name="0", words=("zero", "digit")),
        ImageClass(name="1", words=("one", "digit")),
        ImageClass(name="Food & Drink"),
    ),
    channels=1,
    image_size=SIDE,
    widths=(4, 8, 8),
    hidden=12,
    low=0.2,
    high=1.5,
    rate=0.3,
    sweeps=12,
)


def make_net(shape: EnergyConfig = SHAPE, seed: int = 0) -> EnergyNet:
    """Random weights: images differ visibly by seed and by class, and chains stay bounded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = EnergyNet(shape)
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.25)
        torch.nn.init.normal_(net.template.weight, std=0.4)
        net.centre.uniform_(-0.8, 0)
    return net.eval().requires_grad_(False)


def make_bowl(centre: float = -0.4) -> EnergyNet:
    """No tilt at all: the energy of a Gaussian of deviation `low` about `centre`."""
    net = make_net()
    for parameter in net.parameters():
        parameter.zero_()
    net.centre.fill_(centre)
    return net


def some_images(count: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """(N, 1, H, W) around [-1, 1]."""
    return torch.randn(count, 1, SIDE, SIDE, dtype=dtype, generator=torch.Generator().manual_seed(seed)) * 0.6


def make_folder(folder: Path, shape: EnergyConfig = SHAPE) -> Path:
    save_model(make_net(shape), shape, folder)
    return folder


def tiny_config(folder: Path, **options: object) -> EbmModel:
    return EbmModel.model_validate({"id": "tiny-ebm", "source": f"file://{folder}", **options})


def picture(seed: int = 0, side: int = SIDE) -> str:
    """A grey picture as a `data:` URL."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def pixels_of(seed: int = 0, side: int = SIDE) -> Tensor:
    """uint8 (1, H, W): what `picture` shows."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (1, side, side), dtype=np.uint8))


def make_classes(count: int) -> list[Tensor]:
    """Three classes that a small network tells apart: a bright left half, right half or top, with noise."""
    draws = torch.Generator().manual_seed(0)
    classes: list[Tensor] = []
    for label in range(3):
        images = torch.randint(0, 60, (count, 1, SIDE, SIDE), generator=draws)
        half = [images[..., : SIDE // 2], images[..., SIDE // 2 :], images[..., : SIDE // 2, :]][label]
        half += 150
        classes.append(images.to(torch.uint8))
    return classes


def make_data(folder: Path, count: int = 60) -> Path:
    write_split(folder, make_classes(count))
    return folder
