"""Owns grids in bulk, for measuring and for sheets: through the sampler that serves, so that they are what it draws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from services.families.pixelcnn.level_tasks import LevelChunk, LevelFinish
from services.families.pixelcnn.model import GatedPixelCnn, PixelCnnConfig
from services.families.pixelcnn.params import Given, ImageParams, LevelParams
from services.families.pixelcnn.pictures import ImageFinish
from services.families.pixelcnn.sampler import RowSampler
from services.nn.canvas import Drawing
from services.nn.images import Pixels, Writing
from services.nn.rng import derive_seed
from services.nn.weights import load_model

SEED = 20240601  # of what evaluations and sheets draw
_ROWS = 128  # at a time
_PNG = Writing("png", 90)

DrawT = TypeVar("DrawT", ImageParams, LevelParams)
ChunkT = TypeVar("ChunkT")


def load_for_measuring(folder: Path) -> GatedPixelCnn:
    """In float32 on the CPU, as evaluations need it whatever serves it."""
    return load_model(GatedPixelCnn, PixelCnnConfig, folder, dtype=torch.float32, device=torch.device("cpu"))


def draw_images(
    model: GatedPixelCnn, labels: Sequence[int], *, given: Sequence[Given] | None = None, temperature: float = 1.0
) -> list[Pixels]:
    """An image uint8 (H, W, 1) of each class, each with the seed of its place; `given` is kept of each."""
    steps = model.config.height
    rows = [
        ImageParams(
            "image",
            Drawing(derive_seed(SEED, i), label, _PNG, 0, steps),
            temperature,
            None if given is None else given[i],
        )
        for i, label in enumerate(labels)
    ]
    sampler = RowSampler(model, ImageFinish(model.config.values), _ROWS)
    return [chunk.pixels for chunk in _draw(sampler, rows)]


def draw_levels(model: GatedPixelCnn, count: int, *, attempts: int = 1, temperature: float = 1.0) -> list[LevelChunk]:
    """Levels over the whole canvas, well-formed or not."""
    rows = [LevelParams(derive_seed(SEED, i), temperature, attempts, model.config.height) for i in range(count)]
    return _draw(RowSampler(model, LevelFinish(), _ROWS), rows)


def _draw(sampler: RowSampler[DrawT, ChunkT], rows: Sequence[DrawT]) -> list[ChunkT]:
    """Every row's chunk, a full batch after the other."""
    found: list[ChunkT] = []
    for first in range(0, len(rows), _ROWS):
        found += _draw_batch(sampler, rows[first : first + _ROWS])
    return found


def _draw_batch(sampler: RowSampler[DrawT, ChunkT], rows: Sequence[DrawT]) -> list[ChunkT]:
    running = {i: sampler.start(params) for i, params in enumerate(rows)}
    chunks: dict[int, ChunkT] = {}
    while running:
        outputs = sampler.step(list(running.values()))
        for i, output in zip(list(running), outputs, strict=True):
            if output.finish_reason is None:
                continue
            if output.chunk is None:
                raise RuntimeError("the network's values are not finite")
            chunks[i] = output.chunk
            sampler.release(running.pop(i))
    return [chunks[i] for i in range(len(rows))]


def units_of(images: Sequence[Pixels]) -> Tensor:
    """float32 (N, C, H, W) in [-1, 1] of images uint8 (H, W, C), as measuring and sheets take them."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
