"""Owns the held-out sample that lies beside published weights, and the quick scores that it gives.

The sample lets anyone measure the weights without the training data, in a second: no network judges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from services.training.distances import FeatureStatistics, frechet_distance, nearest_class, pooled_pixels
from services.training.image_data import ImageSet

SAMPLE = "held_out.png"
DrawClasses = Callable[
    [Tensor], Tensor
]  # classes int64 (N,) -> an image of each (N, C, H, W) in [-1, 1]; the same each time
_COLUMNS = {1: 20, 3: 8}  # images of each class by channels, so that the file stays below 100 kB
_POOLED_SIDE = 4
_DRAWN_PER_CLASS = 50


def write_held_out(held_out: ImageSet, folder: Path) -> None:
    """held_out.png: a row a class, the first images of each, without gaps."""
    channels, side = held_out.images.shape[1:3]
    count = int(held_out.classes.max()) + 1
    columns = min(_COLUMNS[channels], int(held_out.classes.bincount().min()))
    tiles = held_out.of_each_class(columns).images.view(count, columns, channels, side, side)
    mosaic = tiles.permute(0, 3, 1, 4, 2).reshape(count * side, columns * side, channels).numpy()
    Image.fromarray(mosaic[..., 0] if channels == 1 else mosaic).save(folder / SAMPLE, optimize=True)


def read_held_out(folder: Path, *, classes: int, channels: int) -> ImageSet:
    """The sample that `write_held_out` wrote of a model of square images."""
    with Image.open(folder / SAMPLE) as image:
        mosaic = torch.from_numpy(np.array(image))
    side = len(mosaic) // classes
    tiles = mosaic.view(classes, side, -1, side, channels)  # (K, H, columns, W, C)
    images = tiles.permute(0, 2, 4, 1, 3).flatten(0, 1).contiguous()
    return ImageSet(images, torch.arange(classes).repeat_interleave(tiles.shape[2]))


def sample_scores(draw: DrawClasses, sample: ImageSet) -> Mapping[str, float]:
    """How near drawn images are to the sample.

    `frechet`: Frechet distance of images averaged to 4x4 pixels. `neighbour`: how often the nearest image of the
    sample, by pixels, has the class that was asked for.
    """
    asked = torch.arange(int(sample.classes.max()) + 1).repeat_interleave(_DRAWN_PER_CLASS)
    images = draw(asked)
    known = sample.units()
    drawn, real = (FeatureStatistics.of(pooled_pixels(each, _POOLED_SIDE)) for each in (images, known))
    verdicts = nearest_class(images, known, sample.classes)
    return {"frechet": frechet_distance(drawn, real), "neighbour": (verdicts == asked).float().mean().item()}
