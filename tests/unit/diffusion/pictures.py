"""Pictures as clients send them."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image


def gradient(width: int, height: int) -> Image.Image:
    """RGB, different in every pixel."""
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([255 * columns / width, 255 * rows / height, 16 * ((rows + columns) % 16)], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def left_half_free(width: int, height: int) -> Image.Image:
    """A mask in OpenAI's form: transparent where the image may change."""
    mask = Image.new("RGBA", (width, height), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, width // 2, height))
    return mask


def data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
