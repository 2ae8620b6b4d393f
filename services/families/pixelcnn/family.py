"""Owns the family's entry: a folder of weights becomes a loaded model of images, or of levels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
import torch

from services.engine.contract import Sampler, Task
from services.families import LoadedModel
from services.families.pixelcnn.level_tasks import LevelFinish, LevelTask
from services.families.pixelcnn.likelihood import GRIDS
from services.families.pixelcnn.model import GatedPixelCnn, PixelCnnConfig
from services.families.pixelcnn.pictures import ImageFinish
from services.families.pixelcnn.sampler import RowSampler
from services.families.pixelcnn.scores import ScorePass
from services.families.pixelcnn.tasks import GIVEN_CLASS, METRIC, OPTIONS, EditTask, Greys, ImageTask, ScoreTask
from services.nn.canvas import Canvas
from services.nn.classes import ClassPrompts
from services.nn.device import device_errors
from services.nn.errors import UnsupportedModel
from services.nn.percentiles import read_known
from services.nn.weights import DTYPES, load_model
from shared.config.pixelcnn import PixelCnnImageModel, PixelCnnLevelModel

_LIVE_LAYERS = 12  # tensors as large as a layer's that a pass over whole grids holds at once

Parts = tuple[Sampler[Any, Any, Any], Mapping[str, Task[Any, Any, Any, Any]]]


def load(config: PixelCnnImageModel | PixelCnnLevelModel, folder: Path) -> LoadedModel:
    """Load a model: config.json and model.safetensors, already verified; scores.json where there is one.

    Raises UnsupportedModel for another kind of model, or one of another `kind` than models.yaml says;
    DeviceFailure if the device fails.
    """
    with device_errors():
        model = load_model(
            GatedPixelCnn, PixelCnnConfig, folder, dtype=DTYPES[config.dtype], device=torch.device(config.device)
        )
    sampler, tasks = _levels(config, model) if config.kind == "level" else _images(config, model, folder)
    shape = model.config
    memory = _memory(model, config.max_batch_size)
    structlog.get_logger(__name__).info(
        "model_loaded", model=config.id, kind=shape.kind, classes=len(shape.classes), memory_mb=memory >> 20
    )
    limits = {"width": shape.width, "height": shape.height, "max_batch_size": config.max_batch_size}
    if shape.classes:
        limits["classes"] = len(shape.classes)
    return LoadedModel(sampler=sampler, tasks=tasks, memory=memory, limits=limits, revision=config.revision)


def _images(config: PixelCnnImageModel, model: GatedPixelCnn, folder: Path) -> Parts:
    shape = model.config
    if shape.kind != "image":
        raise UnsupportedModel("the model", "it draws levels: models.yaml must say `kind: level`")
    prompts = ClassPrompts(shape.classes, config.id)
    greys = Greys(Canvas(config.id, shape.width, shape.height, 1, prompts, OPTIONS), shape.values)
    known = read_known(folder, (METRIC, GIVEN_CLASS))
    tasks = {"image": ImageTask(greys), "edit": EditTask(greys), "score": ScoreTask(greys, known)}
    finish = ImageFinish(shape.values)
    return RowSampler(model, finish, config.max_batch_size, {"score": ScorePass(model)}), tasks


def _levels(config: PixelCnnLevelModel, model: GatedPixelCnn) -> Parts:
    if model.config.kind != "level":
        raise UnsupportedModel("the model", "it draws images, not levels: models.yaml must say `kind: image`")
    task = LevelTask(model.config.height, config.temperature, config.max_nodes)
    return RowSampler(model, LevelFinish(), config.max_batch_size), {"level": task}


def _memory(model: GatedPixelCnn, rows: int) -> int:
    """Bytes at most: the weights, what a full batch keeps and makes of its rows, and a pass over whole grids."""
    shape = model.config
    weights = sum(tensor.nbytes for tensor in model.parameters())
    row = shape.width * shape.features * 4
    kept = 2 * rows * (sum(shape.dilations) + _LIVE_LAYERS * len(shape.dilations)) * row
    return weights + kept + GRIDS * _LIVE_LAYERS * shape.height * row
