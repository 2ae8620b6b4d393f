"""Owns the family's entry: a folder of weights becomes a loaded model."""

from __future__ import annotations

from pathlib import Path

import structlog
import torch
from torch import nn

from services.families import LoadedModel
from services.families.vae.bounds import DECODED_ROWS
from services.families.vae.image_model import ImageVae, ImageVaeConfig
from services.families.vae.image_passes import DrawPass, EmbedPass, ReconstructPass, ScorePass
from services.families.vae.image_tasks import OPTIONS, ImageTask, InterpolationTask, VariationTask
from services.families.vae.reading_tasks import EmbeddingTask, ReconstructionTask, ScoreTask
from services.families.vae.record_model import RecordVae, RecordVaeConfig
from services.families.vae.record_passes import (
    RecordDrawPass,
    RecordEmbedPass,
    RecordReconstructPass,
    RecordScorePass,
)
from services.nn.canvas import Canvas
from services.nn.classes import ClassPrompts
from services.nn.device import device_errors
from services.nn.one_shot import OneShotSampler
from services.nn.percentiles import read_known
from services.nn.record_tasks import (
    Measure,
    RecordEmbeddingTask,
    RecordReconstructionTask,
    RecordScoreTask,
    RecordTask,
)
from services.nn.weights import DTYPES, load_model
from shared.config.vae import SAMPLES, ImageVaeModel, RecordVaeModel
from shared.schemas.scores import Metric

_LIVE_LAYERS = 6  # tensors of the largest layer that a pass holds at once: in, out, normalised, activated, workspace
# How many passes of a decoder are a second or so on one core.
_IMAGE_STEP_COST, _RECORD_STEP_COST = 2.0**10, 2.0**14


def load(config: ImageVaeModel | RecordVaeModel, folder: Path) -> LoadedModel:
    """Load an autoencoder: config.json, model.safetensors and scores.json, already verified.

    Raises UnsupportedModel for another kind of model, DeviceFailure if the device fails.
    """
    with device_errors():
        return _load_images(config, folder) if config.kind == "image" else _load_records(config, folder)


def _load_images(config: ImageVaeModel, folder: Path) -> LoadedModel:
    device = torch.device(config.device)
    model = load_model(ImageVae, ImageVaeConfig, folder, dtype=DTYPES[config.dtype], device=device)
    shape, side = model.config, model.config.image_size
    canvas = Canvas(config.id, side, side, shape.channels, ClassPrompts(shape.classes, config.id), OPTIONS)
    memory = _image_memory(model, config.max_batch_size)
    _log(config, memory)
    draw = DrawPass(model)
    passes = {
        "image": draw,
        "variation": draw,
        "interpolation": draw,
        "embedding": EmbedPass(model),
        "reconstruction": ReconstructPass(model),
        "score": ScorePass(model, read_known(folder, tuple(SAMPLES))),
    }
    return LoadedModel(
        sampler=OneShotSampler(passes, config.max_batch_size, max_cost=_IMAGE_STEP_COST),
        tasks={
            "image": ImageTask(canvas),
            "variation": VariationTask(canvas),
            "interpolation": InterpolationTask(canvas),
            "embedding": EmbeddingTask(canvas, shape.latent_size),
            "reconstruction": ReconstructionTask(canvas),
            "score": ScoreTask(canvas),
        },
        memory=memory,
        limits={
            "width": side,
            "height": side,
            "dimensions": shape.latent_size,
            "max_batch_size": config.max_batch_size,
        },
        revision=config.revision,
    )


def _load_records(config: RecordVaeModel, folder: Path) -> LoadedModel:
    device = torch.device(config.device)
    model = load_model(RecordVae, RecordVaeConfig, folder, dtype=DTYPES[config.dtype], device=device)
    table, size = model.config.table, model.config.latent_size
    memory = _record_memory(model, config.max_batch_size)
    _log(config, memory)
    passes = {
        "record": RecordDrawPass(model),
        "embedding": RecordEmbedPass(model),
        "reconstruction": RecordReconstructPass(model),
        "score": RecordScorePass(model),
    }
    measures: dict[Metric, Measure] = {metric: Measure("lower_bound", samples) for metric, samples in SAMPLES.items()}
    return LoadedModel(
        sampler=OneShotSampler(passes, config.max_batch_size, max_cost=_RECORD_STEP_COST),
        tasks={
            "record": RecordTask(config.id, table),
            "embedding": RecordEmbeddingTask(config.id, table, size),
            "reconstruction": RecordReconstructionTask(config.id, table),
            "score": RecordScoreTask(config.id, table, measures, read_known(folder, tuple(SAMPLES))),
        },
        memory=memory,
        limits={"columns": len(table.columns), "dimensions": size, "max_batch_size": config.max_batch_size},
        revision=config.revision,
    )


def _log(config: ImageVaeModel | RecordVaeModel, memory: int) -> None:
    structlog.get_logger(__name__).info("model_loaded", model=config.id, kind=config.kind, memory_mb=memory >> 20)


def _image_memory(model: ImageVae, rows: int) -> int:
    """Bytes at most: the weights, and a full batch's layers, or those of as many latents as are decoded at once."""
    return _weights(model) + max(rows, DECODED_ROWS) * _LIVE_LAYERS * _largest_layer(model.config) * 4


def _largest_layer(config: ImageVaeConfig) -> int:
    """Elements of one row's largest layer, which counts as float32 whatever the dtype."""
    sides = [config.base_size * 2**i for i in range(len(config.widths) + 1)]
    widths = (*config.widths, 2 * config.channels)
    return max(side**2 * width for side, width in zip(sides, widths, strict=True))


def _record_memory(model: RecordVae, rows: int) -> int:
    """The same, where the draws of scores take more than a network's layers."""
    config = model.config
    widest = max(config.width, 3 * config.table.width, config.components * config.latent_size)
    draws = int(_RECORD_STEP_COST) * config.latent_size
    return _weights(model) + (max(rows, DECODED_ROWS) * _LIVE_LAYERS * widest + draws) * 8


def _weights(model: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in model.parameters())
