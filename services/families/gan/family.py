"""Owns the family's entry: a folder of weights becomes a loaded model."""

from __future__ import annotations

from pathlib import Path

import structlog
import torch

from services.families import LoadedModel
from services.families.gan.model import Generator, GeneratorConfig
from services.families.gan.sampler import GeneratorPass
from services.families.gan.tasks import OPTIONS, ImageTask, InterpolationTask
from services.nn.canvas import Canvas
from services.nn.classes import ClassPrompts
from services.nn.device import device_errors
from services.nn.one_shot import OneShotSampler
from services.nn.weights import DTYPES, load_model
from shared.config.gan import GanModel

_LIVE_LAYERS = 6  # tensors of the largest layer that a pass holds at once: in, out, normalised, modulated, workspace


def load(config: GanModel, folder: Path) -> LoadedModel:
    """Load a generator: config.json and model.safetensors, already verified.

    Raises UnsupportedModel for another kind of model, DeviceFailure if the device fails.
    """
    with device_errors():
        generator = load_model(
            Generator, GeneratorConfig, folder, dtype=DTYPES[config.dtype], device=torch.device(config.device)
        )
    shape = generator.config
    side = shape.image_size
    memory = _memory(generator, config.max_batch_size)
    canvas = Canvas(config.id, side, side, shape.channels, ClassPrompts(shape.classes, config.id), OPTIONS)
    structlog.get_logger(__name__).info(
        "model_loaded", model=config.id, classes=len(shape.classes), side=side, memory_mb=memory >> 20
    )
    draw = GeneratorPass(generator)
    return LoadedModel(
        sampler=OneShotSampler({"image": draw, "interpolation": draw}, config.max_batch_size),
        tasks={"image": ImageTask(canvas), "interpolation": InterpolationTask(canvas)},
        memory=memory,
        limits={"width": side, "height": side, "max_batch_size": config.max_batch_size},
        revision=config.revision,
    )


def _memory(generator: Generator, rows: int) -> int:
    """Bytes at most: the weights, and a full batch's layers."""
    weights = sum(tensor.nbytes for tensor in generator.parameters())
    return weights + rows * _LIVE_LAYERS * _largest_layer(generator.config) * 4


def _largest_layer(config: GeneratorConfig) -> int:
    """Elements of one row's largest layer; images count as float32 whatever the dtype."""
    sides = [config.base_size * 2**i for i in range(len(config.widths) + 1)]
    return max(side**2 * width for side, width in zip(sides, (*config.widths, config.channels), strict=True))
