"""Owns the family's entry: a folder of weights becomes a loaded model."""

from __future__ import annotations

from pathlib import Path

import structlog
import torch
from torch import nn

from services.families import LoadedModel
from services.families.flow.model import ImageFlow, ImageFlowConfig
from services.families.flow.record_model import RecordFlow, RecordFlowConfig
from services.families.flow.record_sampler import DrawRecords, EmbedRecords, ScoreRecords
from services.families.flow.sampler import ENTRIES, DrawPass, EmbeddingPass, ScorePass
from services.families.flow.tasks import (
    GIVEN_CLASS,
    METRIC,
    OPTIONS,
    EmbeddingTask,
    ImageTask,
    InterpolationTask,
    ScoreTask,
)
from services.nn.canvas import Canvas
from services.nn.classes import ClassPrompts
from services.nn.device import device_errors
from services.nn.one_shot import OneShotSampler
from services.nn.percentiles import read_known
from services.nn.record_tasks import Measure, RecordEmbeddingTask, RecordScoreTask, RecordTask
from services.nn.weights import load_model
from shared.config.flow import ImageFlowModel, RecordFlowModel

_STEP_COST = 256.0  # passes: a second or so on one core
_LIVE_LAYERS = 8  # tensors of the widest layer that a pass holds at once


def load(config: ImageFlowModel | RecordFlowModel, folder: Path) -> LoadedModel:
    """Load a flow: config.json, model.safetensors and scores.json, already verified.

    Weights are kept in half precision and computed with in single: a map of narrow densities is not inverted well in
    less. Raises UnsupportedModel for another kind of model, DeviceFailure if the device fails.
    """
    with device_errors():
        return _images(config, folder) if isinstance(config, ImageFlowModel) else _records(config, folder)


def _images(config: ImageFlowModel, folder: Path) -> LoadedModel:
    flow = load_model(ImageFlow, ImageFlowConfig, folder, dtype=torch.float32, device=torch.device(config.device))
    shape = flow.config
    memory = _memory(flow, config.max_batch_size)
    canvas = Canvas(config.id, shape.side, shape.side, 1, ClassPrompts(shape.classes, config.id), OPTIONS)
    structlog.get_logger(__name__).info(
        "model_loaded", model=config.id, classes=len(shape.classes), side=shape.side, memory_mb=memory >> 20
    )
    draw = DrawPass(flow)
    return LoadedModel(
        sampler=OneShotSampler(
            {"image": draw, "interpolation": draw, "score": ScorePass(flow), "embedding": EmbeddingPass(flow)},
            config.max_batch_size,
            max_cost=_STEP_COST,
        ),
        tasks={
            "image": ImageTask(canvas),
            "interpolation": InterpolationTask(canvas),
            "score": ScoreTask(canvas, read_known(folder, (METRIC, GIVEN_CLASS))),
            "embedding": EmbeddingTask(canvas),
        },
        memory=memory,
        limits={
            "width": shape.side,
            "height": shape.side,
            "classes": len(shape.classes),
            "dimensions": shape.dimensions,
            "max_batch_size": config.max_batch_size,
        },
        revision=config.revision,
    )


def _records(config: RecordFlowModel, folder: Path) -> LoadedModel:
    flow = load_model(RecordFlow, RecordFlowConfig, folder, dtype=torch.float32, device=torch.device(config.device))
    shape, columns = flow.config, len(flow.grid.sizes)
    memory = _weights(flow) + config.max_batch_size * _LIVE_LAYERS * max(columns * 3 * shape.bins, *shape.hidden) * 4
    structlog.get_logger(__name__).info("model_loaded", model=config.id, columns=columns, memory_mb=memory >> 20)
    table = shape.table
    return LoadedModel(
        sampler=OneShotSampler(
            {"record": DrawRecords(flow), "score": ScoreRecords(flow), "embedding": EmbedRecords(flow)},
            config.max_batch_size,
        ),
        tasks={
            "record": RecordTask(config.id, table, cost=float(columns)),
            "score": RecordScoreTask(config.id, table, {METRIC: Measure("exact")}, read_known(folder, (METRIC,))),
            "embedding": RecordEmbeddingTask(config.id, table, columns),
        },
        memory=memory,
        limits={"columns": columns, "dimensions": columns, "max_batch_size": config.max_batch_size},
        revision=config.revision,
    )


def _memory(flow: ImageFlow, rows: int) -> int:
    """Bytes at most: the weights, and the layers of a full batch or of a part that is measured at once."""
    shape = flow.config
    splines = flow.coarse_side**2 * (3 * shape.coarse.bins - 1)
    convolutions = [scale.width * (shape.side // 2 ** (i + 1)) ** 2 for i, scale in enumerate(shape.scales)]
    return _weights(flow) + max(rows, ENTRIES) * _LIVE_LAYERS * max(splines, *convolutions) * 4


def _weights(flow: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*flow.parameters(), *flow.buffers()))
