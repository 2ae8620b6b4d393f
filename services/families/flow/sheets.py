"""Owns the pictures of an image flow's card: samples by class and by temperature, ways between images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from services.families.flow.drawing import draw_classes
from services.families.flow.model import ImageFlow
from services.families.flow.params import DrawParams, GivenEnd
from services.families.flow.sampler import DrawPass
from services.nn.canvas import Drawing
from services.nn.images import Writing
from services.training.image_data import ImageSet
from services.training.sheets import grid


def class_sheet(flow: ImageFlow, *, columns: int) -> Image.Image:
    """A row a class, each image from a latent of its own."""
    names = [each.name for each in flow.config.classes]
    return grid(draw_classes(flow, torch.arange(len(names)).repeat_interleave(columns)), columns, names)


def temperature_sheet(flow: ImageFlow, *, columns: int, scales: Sequence[float]) -> Image.Image:
    """A row a temperature, the same latents and classes in every row."""
    asked = torch.arange(columns) % len(flow.config.classes)
    images = torch.cat([draw_classes(flow, asked, temperature=scale) for scale in scales])
    return grid(images, columns, [f"temperature {scale:g}" for scale in scales])


@torch.inference_mode()
def interpolation_sheet(flow: ImageFlow, sample: ImageSet, *, columns: int) -> Image.Image:
    """A row a class: from a held-out image of it (left) to one of the next class (right), as serving does it."""
    count = len(flow.config.classes)
    ends = [GivenEnd(image, (int(label),)) for image, label in _firsts(sample)]
    draw = DrawPass(flow)
    drawing = Drawing(0, 0, Writing("png", 0), 0)
    frames = [
        DrawParams("interpolation", ends[i], ends[(i + 1) % count], at, 1.0, drawing)
        for i in range(count)
        for at in torch.linspace(0, 1, columns).tolist()
    ]
    chunks = [chunk for chunk in draw(frames) if chunk is not None]
    pixels = torch.stack([torch.from_numpy(chunk.pixels).permute(2, 0, 1) for chunk in chunks])
    return grid(pixels.float() / 127.5 - 1, columns, [""] * count)


def _firsts(sample: ImageSet) -> list[tuple[torch.Tensor, int]]:
    firsts = sample.of_each_class(1)
    return list(zip(firsts.images, firsts.classes.tolist(), strict=True))
