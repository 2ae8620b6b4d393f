"""Owns the pictures of the models' cards: samples by class, temperatures, completed halves, levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from services.families.pixelcnn.drawing import draw_images, draw_levels, units_of
from services.families.pixelcnn.level_drawing import SIDE, draw_level
from services.families.pixelcnn.model import GatedPixelCnn
from services.families.pixelcnn.params import FREE, Given, Values
from services.families.pixelcnn.pictures import to_values
from services.training.image_data import ImageSet
from services.training.sheets import grid

_GAP = 8


def class_sheet(model: GatedPixelCnn, *, columns: int) -> Image.Image:
    """A row a class, each image from a seed of its own."""
    names = [each.name for each in model.config.classes]
    labels = [label for label in range(len(names)) for _ in range(columns)]
    return grid(units_of(draw_images(model, labels)), columns, names)


def temperature_sheet(model: GatedPixelCnn, *, columns: int, temperatures: Sequence[float]) -> Image.Image:
    """A row a temperature, the same seeds and classes in every row."""
    labels = [i % len(model.config.classes) for i in range(columns)]
    drawn = [each for t in temperatures for each in draw_images(model, labels, temperature=t)]
    return grid(units_of(drawn), columns, [f"temperature {t:g}" for t in temperatures])


def half_kept(images: ImageSet, levels: int) -> list[Given]:
    """The upper half of each image is kept, the lower one is free."""
    given: list[Given] = []
    for image in images.images:
        values = to_values(image[0], levels).numpy()
        values[len(values) // 2 :] = FREE
        given.append(Given(values, image[0].numpy()[..., None]))
    return given


def completion_sheet(model: GatedPixelCnn, real: ImageSet, *, draws: int) -> Image.Image:
    """Held-out images, and below them their lower halves drawn anew `draws` times."""
    labels = real.classes.tolist()
    given = half_kept(real, model.config.values) * draws
    images = torch.cat([real.units(), units_of(draw_images(model, labels * draws, given=given))])
    return grid(images, len(labels), ["held out", *["lower half anew"] * draws])


def level_sheet(levels: Sequence[Values], *, columns: int) -> Image.Image:
    """Levels over the whole canvas, in reading order."""
    pictures = [draw_level(level) for level in levels]
    side = levels[0].shape[0] * SIDE + _GAP
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * side + _GAP, rows * side + _GAP), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * side + _GAP, i // columns * side + _GAP))
    return sheet


def sample_sheet(model: GatedPixelCnn) -> Image.Image:
    """What to look at while levels are learnt: first attempts, whatever they are."""
    return level_sheet([chunk.level for chunk in draw_levels(model, 12)], columns=4)
