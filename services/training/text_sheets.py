"""Owns pictures of texts side by side, for looking at a training and for cards. Never writes what they say."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

_MARGIN, _WIDTH, _LINE = 12, 330, 14


def page(texts: Sequence[str], labels: Sequence[str], columns: int = 2) -> Image.Image:
    """Texts under their labels, row by row; each line of a text is one on the sheet, and wide ones are cut."""
    rows = -(-len(texts) // columns)
    height = max(text.count("\n") for text in texts) * _LINE + 4 * _LINE
    sheet = Image.new("RGB", (columns * _WIDTH + _MARGIN, rows * height + _MARGIN), "white")
    for i, (text, label) in enumerate(zip(texts, labels, strict=True)):
        cell = Image.new("RGB", (_WIDTH - _MARGIN, height), "white")
        pen = ImageDraw.Draw(cell)
        pen.text((0, 0), label, fill="#1f5fa8")
        for line, content in enumerate(text.split("\n"), start=1):
            pen.text((0, line * _LINE + 4), content, fill="black")
        sheet.paste(cell, (i % columns * _WIDTH + _MARGIN, i // columns * height + _MARGIN))
    return sheet
