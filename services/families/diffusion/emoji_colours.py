"""Owns recolouring: the main colour of a picture becomes another, and the rest of it stays."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_LEAST_SATURATION = 0.25  # greys, outlines and white stay
_WINDOW = 0.11  # of the hue's circle, either side of the main hue


def recolour(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """The RGB picture with its main hue turned to `colour`; lighter and darker parts stay lighter and darker."""
    hue, saturation, value = _hsv(np.asarray(image))
    coloured = saturation > _LEAST_SATURATION
    main = _main_hue(hue[coloured])
    turned = coloured & (np.abs((hue - main + 0.5) % 1.0 - 0.5) < _WINDOW)
    to_hue, to_saturation, to_value = colorsys.rgb_to_hsv(*(channel / 255 for channel in colour))
    hue = np.where(turned, to_hue, hue)
    saturation = np.where(turned, _moved(saturation, saturation[turned], to_saturation), saturation)
    value = np.where(turned, _moved(value, value[turned], to_value), value)
    channels = np.stack((hue, saturation, value), -1)
    as_bytes = (channels * 255).round().astype(np.uint8)
    return Image.fromarray(as_bytes, "HSV").convert("RGB")


def _hsv(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    channels = np.asarray(Image.fromarray(pixels).convert("HSV"), dtype=np.float64) / 255
    return channels[..., 0], channels[..., 1], channels[..., 2]


def _main_hue(hues: NDArray[np.float64]) -> float:
    """The middle of the fullest of 24 bins of hue."""
    counts, _ = np.histogram(hues, bins=24, range=(0.0, 1.0))
    return (int(counts.argmax()) + 0.5) / 24


def _moved(channel: NDArray[np.float64], inside: NDArray[np.float64], target: float) -> NDArray[np.float64]:
    """The channel scaled so that the median inside becomes the target."""
    return np.clip(channel * (target / max(float(np.median(inside)), 1e-6)), 0.0, 1.0)
