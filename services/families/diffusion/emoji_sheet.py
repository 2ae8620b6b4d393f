"""Owns the sheets of samples that a person looks at: a grid of pictures with their captions below."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from services.nn.images import to_pixels

_SCALE, _MARGIN, _LINE, _LINES = 3, 8, 11, 3


def captioned_sheet(images: Tensor, captions: Sequence[str], *, columns: int = 8) -> Image.Image:
    """A grid of images (N, 3, H, W) in [-1, 1], three times their size, in reading order."""
    side = images.shape[-1] * _SCALE
    width, height = side + 2 * _MARGIN, side + _MARGIN + _LINE * _LINES + 4
    sheet = Image.new("RGB", (columns * width, -(-len(captions) // columns) * height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(9)
    for place, (pixels, caption) in enumerate(zip(to_pixels(images), captions, strict=True)):
        left, top = place % columns * width, place // columns * height
        large = Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)
        sheet.paste(large, (left + _MARGIN, top + _MARGIN))
        text = "\n".join(_wrapped(caption, draw, font, width - 4))
        draw.multiline_text(
            (left + width // 2, top + side + _MARGIN + 2), text, "black", font, anchor="ma", align="center", spacing=1
        )
    return sheet


def _wrapped(
    caption: str, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> list[str]:
    lines = [""]
    for word in caption.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and draw.textlength(longer, font) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines[:_LINES]
