"""Owns what the two models learn from: digits at few grey levels, and levels turned, mirrored and moved about."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from services.families.pixelcnn.level_data import LevelSplit, centred, example
from services.families.pixelcnn.params import Values
from services.families.pixelcnn.pictures import to_values
from services.families.pixelcnn.sokoban import symmetries
from services.families.pixelcnn.training import Grids
from services.training.image_data import ImageSet, Split

_VALIDATED = 200  # held-out images, spread evenly


class ImageSource:
    """Implements `services.families.pixelcnn.training.Source` for images of one channel."""

    def __init__(self, split: Split, levels: int) -> None:
        self._split, self._levels = split, levels

    @property
    def examples(self) -> int:
        return len(self._split.train)

    def batch(self, indices: Tensor, generator: torch.Generator) -> Grids:
        return image_grids(self._split.train.subset(indices), self._levels)

    def held_out(self) -> Grids:
        return image_grids(spread(self._split.held_out, _VALIDATED), self._levels)


class LevelSource:
    """Implements `services.families.pixelcnn.training.Source` for levels: an example is any form of a level."""

    def __init__(self, split: LevelSplit, side: int) -> None:
        self._split, self._side = split, side

    @property
    def examples(self) -> int:
        return len(self._split.train.levels)

    def batch(self, indices: Tensor, generator: torch.Generator) -> Grids:
        levels = self._split.train.levels
        return level_grids([example(levels[i], self._side, generator) for i in indices.tolist()])

    def held_out(self) -> Grids:
        """The beginnings of held-out levels in all eight symmetries, in the middle of the canvas."""
        return level_grids(in_all_symmetries(self._split.held_out.beginnings, self._side))


def image_grids(images: ImageSet, levels: int) -> Grids:
    return to_values(images.images[:, 0], levels), images.classes


def level_grids(levels: list[Values]) -> Grids:
    """Levels that fill the canvas; they have no classes."""
    return torch.from_numpy(np.stack(levels)), torch.zeros(len(levels), dtype=torch.int64)


def in_all_symmetries(levels: list[Values], side: int) -> list[Values]:
    return [centred(each, (side, side)) for level in levels for each in symmetries(level)]


def spread(images: ImageSet, count: int) -> ImageSet:
    """`count` of the images at even distances, so that every class is among them; all where there are no more."""
    return images.subset(torch.linspace(0, len(images) - 1, min(count, len(images))).round().long())
