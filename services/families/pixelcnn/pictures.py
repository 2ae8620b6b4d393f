"""Owns what values mean in images: grey levels, from pixels and to them. Never sees a network."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from services.families.pixelcnn.params import FREE, ImageParams, Values
from services.nn.images import ImageChunk, Pixels

_NOT_YET = 127  # grey: rows that a preview does not have


def to_values(pixels: Tensor, levels: int) -> Tensor:
    """The nearest of `levels` evenly spaced grey levels, int64, of pixels uint8; black is 0, white `levels` - 1."""
    return (pixels.long() * (levels - 1) + 127) // 255


def to_greys(values: Values, levels: int) -> Pixels:
    """uint8 of the same shape."""
    return np.rint(values * (255 / (levels - 1))).astype(np.uint8)


class ImageFinish:
    """Implements `services.families.pixelcnn.sampler.Finish` for images: each is good as it is drawn."""

    def __init__(self, levels: int) -> None:
        self._levels = levels

    def whole(self, params: ImageParams, values: Values, attempt: int) -> ImageChunk:
        return params.drawing.chunk(self._pixels(params, values))

    def preview(self, params: ImageParams, values: Values, rows: int) -> ImageChunk | None:
        """The rows so far; the others grey, save what an edit keeps of them."""
        if rows not in params.drawing.previews:
            return None
        return params.drawing.chunk(self._pixels(params, values, rows), step=rows)

    def _pixels(self, params: ImageParams, values: Values, rows: int | None = None) -> Pixels:
        """uint8 (H, W, 1). What is given is pasted: it stays as it is to the last bit."""
        pixels = to_greys(values, self._levels)[..., None]
        if rows is not None:
            pixels[rows:] = _NOT_YET
        given = params.given
        return pixels if given is None else np.where(given.values[..., None] != FREE, given.pixels, pixels)
