"""Owns the family's entry: a folder of weights becomes a loaded model."""

from __future__ import annotations

from pathlib import Path

import structlog
import torch

from services.families import LoadedModel
from services.families.ebm.model import EnergyConfig, EnergyNet
from services.families.ebm.sampler import EbmSampler
from services.families.ebm.tasks import CLASS_ENERGY, METRIC, OPTIONS, ImageTask, ScoreTask, VariationTask
from services.nn.canvas import Canvas
from services.nn.classes import ClassPrompts
from services.nn.device import device_errors
from services.nn.percentiles import read_known
from services.nn.weights import DTYPES, load_model
from shared.config.ebm import EbmModel

# Tensors of each stage's size that a gradient holds at once: of both convolutions and swishes, both ways.
_LIVE_LAYERS = 8


def load(config: EbmModel, folder: Path) -> LoadedModel:
    """Load an energy: config.json and model.safetensors, already verified; scores.json where there is one.

    Raises UnsupportedModel for another kind of model, DeviceFailure if the device fails.
    """
    with device_errors():
        net = load_model(
            EnergyNet, EnergyConfig, folder, dtype=DTYPES[config.dtype], device=torch.device(config.device)
        )
    shape, side = net.config, net.config.image_size
    memory = _memory(net, config.max_batch_size)
    canvas = Canvas(config.id, side, side, shape.channels, ClassPrompts(shape.classes, config.id), OPTIONS)
    structlog.get_logger(__name__).info(
        "model_loaded", model=config.id, classes=len(shape.classes), side=side, memory_mb=memory >> 20
    )
    return LoadedModel(
        sampler=EbmSampler(net, max_batch_size=config.max_batch_size, sweeps_per_step=config.sweeps_per_step),
        tasks={
            "image": ImageTask(canvas, shape),
            "variation": VariationTask(canvas, shape),
            "score": ScoreTask(canvas, read_known(folder, (METRIC, CLASS_ENERGY))),
        },
        memory=memory,
        limits={
            "width": side,
            "height": side,
            "max_batch_size": config.max_batch_size,
            "default_steps": shape.sweeps,
        },
        revision=config.revision,
    )


def _memory(net: EnergyNet, rows: int) -> int:
    """Bytes at most: the weights, and what a full batch's gradient keeps of every stage. All count as float32."""
    shape = net.config
    weights = sum(tensor.nbytes for tensor in net.parameters())
    stages = sum((shape.image_size // 2**i) ** 2 * width for i, width in enumerate(shape.widths))
    return weights + rows * _LIVE_LAYERS * (stages + shape.channels * shape.image_size**2) * 4
