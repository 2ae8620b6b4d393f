"""Owns pictures of many images, for cards and for looking at a training. Never draws what is on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from services.nn.images import to_pixels

_SCALE = 2  # screen pixels a pixel
_GAP = 2
_LABEL_WIDTH = 118


def grid(images: Tensor, columns: int, labels: Sequence[str]) -> Image.Image:
    """Images (rows * columns, C, H, W) in [-1, 1], row by row, with a label before each row; all empty: no room."""
    left = _LABEL_WIDTH if any(labels) else 0
    side = images.shape[-1] * _SCALE + _GAP
    sheet = Image.new("RGB", (left + columns * side + _GAP, len(labels) * side + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for row, label in enumerate(labels):
        pen.text((4, row * side + side // 2 - 5), label, fill="black")
    for i, pixels in enumerate(to_pixels(images)):
        large = np.repeat(np.repeat(pixels, _SCALE, axis=0), _SCALE, axis=1)
        tile = Image.fromarray(large[..., 0] if large.shape[-1] == 1 else large)
        sheet.paste(tile, (left + i % columns * side + _GAP, i // columns * side + _GAP))
    return sheet
