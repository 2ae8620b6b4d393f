"""Owns which size an image gets: what was asked for, if the model can draw it. Never sees a tensor."""

from __future__ import annotations

from services.families.diffusion.denoiser import Canvas
from shared.errors import InvalidRequest
from shared.schemas.images import ImageOutput

Size = tuple[int, int]


def size_of(request: ImageOutput, canvas: Canvas, max_pixels: int, image: Size | None) -> Size:
    """(width, height) of the result. `auto` is the given image's own, if the model can draw that; else the model's.

    Raises InvalidRequest for a size that the model cannot draw.
    """
    asked = request.dimensions
    if asked is None:
        fits = image is not None and _reason(image, canvas, max_pixels) is None
        return image if image is not None and fits else canvas.size
    if (reason := _reason(asked, canvas, max_pixels)) is not None:
        raise InvalidRequest(f"{reason}; got {request.size}.", param="size")
    return asked


def _reason(size: Size, canvas: Canvas, max_pixels: int) -> str | None:
    """Why the model cannot draw it; None if it can."""
    if size == canvas.size:
        return None
    if canvas.fixed:
        width, height = canvas.size
        return f"This model draws {width}x{height} alone (or auto)"
    if any(side % canvas.multiple for side in size):
        return f"Both sides of a size must be multiples of {canvas.multiple}"
    if size[0] * size[1] > max_pixels:
        return f"An image may have at most {max_pixels} pixels"
    if canvas.max_side is not None and max(size) > canvas.max_side:
        return f"A side may have at most {canvas.max_side} pixels"
    return None
