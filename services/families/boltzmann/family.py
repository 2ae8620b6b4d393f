"""Owns the family's entry: a folder of weights becomes a loaded model."""

from __future__ import annotations

from pathlib import Path

import structlog
import torch

from services.families import LoadedModel
from services.families.boltzmann.model import Machine, load_machine
from services.families.boltzmann.passes import EmbeddingPass, ReconstructionPass
from services.families.boltzmann.reading import Reader
from services.families.boltzmann.reading_tasks import EmbeddingTask, ReconstructionTask, ScoreTask
from services.families.boltzmann.sampler import SWEEPS_A_STEP, BoltzmannSampler
from services.families.boltzmann.scores import ScorePass, known_names, measures_of
from services.families.boltzmann.tasks import OPTIONS, EditTask, ImageTask
from services.nn.canvas import Canvas
from services.nn.classes import ClassPrompts
from services.nn.device import device_errors
from services.nn.percentiles import read_known
from shared.config.boltzmann import BoltzmannModel


def load(config: BoltzmannModel, folder: Path) -> LoadedModel:
    """Load a machine: config.json, model.safetensors and scores.json, already verified.

    Raises UnsupportedModel for another kind of model and for weights off the grid, DeviceFailure if the device fails.
    """
    with device_errors():
        machine = load_machine(folder, torch.device(config.device))
        reader = Reader(machine)
    shape = machine.config
    measures = measures_of(shape)
    memory = _memory(machine, config.max_batch_size)
    canvas = Canvas(config.id, shape.side, shape.side, 1, ClassPrompts(shape.classes, config.id), OPTIONS)
    structlog.get_logger(__name__).info(
        "model_loaded", model=config.id, hidden=shape.hidden, top=shape.top, memory_mb=memory >> 20
    )
    passes = {
        "reconstruction": ReconstructionPass(reader),
        "embedding": EmbeddingPass(reader),
        "score": ScorePass(reader, measures, read_known(folder, known_names(measures))),
    }
    return LoadedModel(
        sampler=BoltzmannSampler(machine, reader, passes, config.max_batch_size),
        tasks={
            "image": ImageTask(canvas, config.sweeps),
            "edit": EditTask(canvas, config.sweeps),
            "reconstruction": ReconstructionTask(canvas),
            "embedding": EmbeddingTask(canvas, shape.hidden + shape.top),
            "score": ScoreTask(canvas, measures),
        },
        memory=memory,
        limits={
            "width": shape.side,
            "height": shape.side,
            "max_batch_size": config.max_batch_size,
            "dimensions": shape.hidden + shape.top,
        },
        revision=config.revision,
    )


def _memory(machine: Machine, rows: int) -> int:
    """Bytes at most: the weights in float32 and float64, a full batch's chains or readings, a row's turned pixels."""
    shape, classes = machine.config, len(machine.config.classes)
    weights = sum(tensor.nbytes for tensor in machine.parameters())
    chain = 4 * (shape.even + shape.hidden) * (SWEEPS_A_STEP + 8)
    reading = 8 * classes * (2 * shape.even + 4 * shape.hidden)
    turned = 8 * classes * 3 * shape.visible * shape.hidden
    return 3 * weights + rows * max(chain, reading) + turned
