"""Tiny autoencoders with random weights, and data to train some on."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from services.families.vae.image_model import ImageVae, ImageVaeConfig
from services.families.vae.record_model import RecordVae, RecordVaeConfig
from services.nn.classes import ImageClass
from services.nn.records import Table
from services.nn.weights import save_model
from services.training.image_data import write_split
from shared.config.vae import ImageVaeModel, RecordVaeModel

SHAPE = ImageVaeConfig(
    classes=(
        ImageClass(name="0", words=("zero", "digit")),
        ImageClass(name="1", words=("one", "digit")),
        ImageClass(name="Food & Drink"),
    ),
    channels=3,
    base_size=4,
    widths=(16, 8),
    latent_size=6,
    components=2,
)
SIDE = SHAPE.image_size


def spread(module: nn.Module) -> None:
    """Give weights a spread that makes what is drawn differ visibly."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)


def make_vae(shape: ImageVaeConfig = SHAPE, seed: int = 0) -> ImageVae:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = ImageVae(shape)
        spread(vae)
    return vae.eval().requires_grad_(False)


def make_folder(folder: Path, shape: ImageVaeConfig = SHAPE) -> Path:
    save_model(make_vae(shape), shape, folder)
    return folder


def tiny_config(folder: Path, **options: object) -> ImageVaeModel:
    return ImageVaeModel.model_validate({"id": "tiny-vae", "kind": "image", "source": f"file://{folder}", **options})


def make_record_vae(table: Table, seed: int = 0) -> RecordVae:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = RecordVae(RecordVaeConfig(table=table, width=16, latent_size=4, components=3))
        spread(vae)
    return vae.eval().requires_grad_(False)


def record_config(folder: Path, **options: object) -> RecordVaeModel:
    return RecordVaeModel.model_validate(
        {"id": "tiny-records", "kind": "record", "source": f"file://{folder}", **options}
    )


def make_classes(count: int, side: int = SIDE) -> list[Tensor]:
    """Three classes of pictures: a bright left half, right half or top, in a colour of its own, with noise."""
    draws = torch.Generator().manual_seed(0)
    classes: list[Tensor] = []
    for label in range(3):
        images = torch.randint(0, 40, (count, 3, side, side), generator=draws)
        half = [images[..., : side // 2], images[..., side // 2 :], images[..., : side // 2, :]][label]
        half += torch.randint(100, 200, (count, 3, 1, 1), generator=draws)
        classes.append(images.to(torch.uint8))
    return classes


def make_data(folder: Path, count: int = 60) -> Path:
    write_split(folder, make_classes(count))
    return folder


def make_picture(seed: int = 0, side: int = SIDE) -> Tensor:
    """uint8 (3, side, side) of noise."""
    return torch.randint(0, 256, (3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def data_url(picture: Tensor) -> str:
    """As clients send it."""
    buffer = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
