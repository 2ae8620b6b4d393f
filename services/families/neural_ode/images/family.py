"""Owns the way from a folder of weights to a loaded flow of images."""

from __future__ import annotations

from pathlib import Path

import structlog
import torch

from services.families import LoadedModel
from services.families.neural_ode.images.model import FlowConfig, VelocityField
from services.families.neural_ode.images.sampler import FlowSampler
from services.families.neural_ode.images.tasks import METRIC, OPTIONS, ImageTask, InterpolationTask, ScoreTask, Solving
from services.families.neural_ode.solvers import METHODS
from services.nn.canvas import Canvas
from services.nn.classes import ClassPrompts
from services.nn.device import device_errors
from services.nn.percentiles import read_known
from services.nn.weights import DTYPES, load_model
from shared.config.neural_ode import OdeImageModel

_KEPT = 24  # tensors of a block's width, for each of its tokens, that a gradient goes back through


def load_image_model(config: OdeImageModel, folder: Path) -> LoadedModel:
    """config.json and model.safetensors, already verified; scores.json where percentiles are known.

    Raises UnsupportedModel for another kind of model, DeviceFailure if the device fails.
    """
    with device_errors():
        model = load_model(
            VelocityField, FlowConfig, folder, dtype=DTYPES[config.dtype], device=torch.device(config.device)
        )
    shape, method = model.config, METHODS[config.method]
    side = shape.image_size
    canvas = Canvas(config.id, side, side, shape.channels, ClassPrompts(shape.classes, config.id), OPTIONS)
    solving = Solving(
        method.evaluations, config.steps, config.score_steps, config.samples, max_samples=config.max_batch_size
    )
    memory = _memory(model, config.max_batch_size)
    structlog.get_logger(__name__).info("model_loaded", model=config.id, side=side, memory_mb=memory >> 20)
    return LoadedModel(
        sampler=FlowSampler(model, method, config.max_batch_size),
        tasks={
            "image": ImageTask(canvas, solving),
            "interpolation": InterpolationTask(canvas, solving),
            "score": ScoreTask(canvas, solving, read_known(folder, (METRIC,))),
        },
        memory=memory,
        limits={
            "width": side,
            "height": side,
            "default_steps": config.steps,
            "max_samples": config.max_batch_size,
            "max_batch_size": config.max_batch_size,
        },
        revision=config.revision,
    )


def _memory(model: VelocityField, paths: int) -> int:
    """Bytes at most: the weights, and what a full batch of scores keeps for its gradients."""
    weights = sum(tensor.nbytes for tensor in model.parameters())
    shape = model.config
    return weights + paths * shape.depth * shape.tokens * _KEPT * shape.width * model.patches.weight.itemsize
