"""Owns the pictures of a flow's card: samples by class, interpolations, steps. Never measures anything."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from services.families.neural_ode.images.drawing import Solver, draw, draw_classes, noise
from services.families.neural_ode.images.model import VelocityField
from services.nn.latents import lerp, slerp
from services.training.sheets import grid

_SOLVER = Solver()


def class_sheet(model: VelocityField, *, columns: int) -> Image.Image:
    """A row a class, each image from noise of its own."""
    names = [each.name for each in model.config.classes]
    classes = torch.arange(len(names)).repeat_interleave(columns)
    return grid(draw_classes(model, classes, _SOLVER), columns, names)


def interpolation_sheet(model: VelocityField, *, columns: int, rows: int) -> Image.Image:
    """A row a pair of noises, from a class (left) to the next (right)."""
    ends = noise(model, 2 * rows)
    weights = model.one_hot(torch.arange(2 * rows) % len(model.config.classes))
    positions = torch.linspace(0, 1, columns).tolist()
    start = torch.stack([slerp(ends[2 * i], ends[2 * i + 1], at) for i in range(rows) for at in positions])
    mixed = torch.stack([lerp(weights[2 * i], weights[2 * i + 1], at) for i in range(rows) for at in positions])
    return grid(draw(model, start, mixed, _SOLVER), columns, [""] * rows)


def steps_sheet(model: VelocityField, *, columns: int, steps: Sequence[int]) -> Image.Image:
    """A row a number of steps, the same noise and classes in every row."""
    classes = torch.arange(columns) % len(model.config.classes)
    images = torch.cat([draw_classes(model, classes, Solver(_SOLVER.method, count)) for count in steps])
    return grid(images, columns, [f"{count} steps" for count in steps])
