"""Tiny flows and latent ODEs with random weights, as folders that the family loads, and data to train some on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from services.families.neural_ode.images.model import FlowConfig, VelocityField
from services.families.neural_ode.series.model import LatentOde, SeriesConfig
from services.nn.classes import ImageClass
from services.nn.percentiles import write_known
from services.nn.weights import save_model
from services.training.image_data import write_split
from services.training.series_data import Record
from shared.config.neural_ode import OdeImageModel, OdeSeriesModel

FLOW = FlowConfig(
    classes=(
        ImageClass(name="0", words=("zero", "digit")),
        ImageClass(name="1", words=("one", "digit")),
        ImageClass(name="2", words=("two", "digit")),
    ),
    channels=1,
    image_size=8,
    patch=4,
    width=16,
    depth=2,
    heads=2,
)
SERIES = SeriesConfig(
    hidden=12, oscillators=3, static=4, width=12, min_points=4, max_points=64, horizon=40.0, max_step=0.5
)


def _random(make: Any, std: float, seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = make()
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=std)
    return module.eval().requires_grad_(False)


def make_flow(config: FlowConfig = FLOW) -> VelocityField:
    """Random weights, of a spread that makes a class, a time and a place matter."""
    return _random(lambda: VelocityField(config), std=0.2)


def make_latent_ode(config: SeriesConfig = SERIES) -> LatentOde:
    return _random(lambda: LatentOde(config), std=0.3)


def make_flow_folder(folder: Path) -> Path:
    save_model(make_flow(), FLOW, folder)
    write_known(folder, {"log_likelihood": (torch.linspace(-1e5, 0, 50), torch.linspace(-5e4, 0, 50))})
    return folder


def make_series_folder(folder: Path) -> Path:
    save_model(make_latent_ode(), SERIES, folder)
    return folder


def image_config(folder: Path, **options: Any) -> OdeImageModel:
    return OdeImageModel.model_validate({"id": "tiny", "kind": "image", "source": f"file://{folder}", **options})


def series_config(folder: Path, **options: Any) -> OdeSeriesModel:
    return OdeSeriesModel.model_validate({"id": "tiny", "kind": "series", "source": f"file://{folder}", **options})


def make_images(count: int, side: int = 8) -> list[Tensor]:
    """Three classes: a bright left half, right half or top, with noise."""
    draws = torch.Generator().manual_seed(0)
    classes: list[Tensor] = []
    for label in range(3):
        images = torch.randint(0, 60, (count, 1, side, side), generator=draws)
        half = [images[..., : side // 2], images[..., side // 2 :], images[..., : side // 2, :]][label]
        half += 150
        classes.append(images.to(torch.uint8))
    return classes


def make_image_data(folder: Path, count: int = 60) -> Path:
    write_split(folder, make_images(count))
    return folder


def make_records() -> list[Record]:
    """Two sines of other periods, units and lengths, with noise."""
    draws = torch.Generator().manual_seed(0)
    records: list[Record] = []
    for name, count, period in (("waves", 200, 12.0), ("tides", 260, 20.0)):
        times = 1900 + torch.arange(count).double()
        values = 50 + 10 * torch.sin(2 * math.pi * times / period) + torch.randn(count, generator=draws)
        records.append(Record(name, times, values, period))
    return records
