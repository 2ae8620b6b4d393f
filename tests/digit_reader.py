"""Reads handwritten digits: a classifier of 200 real ones that no model was trained on, made anew in a second."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

# The held-out sample that lies beside one of the models; every model of digits holds the same tenth out.
_SAMPLE = Path(__file__).parents[1] / "services/families/gan/weights/digits-gan/held_out.png"
_SIDE = 28
_SHIFTS = [(x, y) for x in (-2, 0, 2) for y in (-2, 0, 2)]

Grey = NDArray[np.float64]


@cache
def _reader() -> Any:
    from sklearn.svm import SVC

    with Image.open(_SAMPLE) as mosaic:
        tiles = np.asarray(mosaic.convert("L")).reshape(10, _SIDE, -1, _SIDE).transpose(0, 2, 1, 3)
    columns = tiles.shape[1]
    images = tiles.reshape(-1, _SIDE, _SIDE)
    moved = [np.roll(image, shift, (0, 1)) for image in images for shift in _SHIFTS]
    digits = np.arange(10).repeat(columns * len(_SHIFTS))
    return SVC(C=10).fit(np.stack([_features(Image.fromarray(each)) for each in moved]), digits)


def read_digits(pictures: Sequence[str]) -> list[int]:
    """What digit each picture (PNG in base64, 28x28, white on black) shows."""
    return _reader().predict(np.stack([_features(_opened(picture)) for picture in pictures])).tolist()


def _opened(picture: str) -> Image.Image:
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        return image.convert("L")


def _features(image: Image.Image) -> Grey:
    """(196,): blurred, so that strokes of other pens fall together, and halved."""
    small = image.filter(ImageFilter.GaussianBlur(1)).resize((_SIDE // 2, _SIDE // 2), Image.Resampling.BOX)
    values = np.asarray(small, dtype=np.float64).ravel()
    return values / max(np.linalg.norm(values), 1.0)
