"""Owns the way from a folder of weights to a loaded latent ODE."""

from __future__ import annotations

from pathlib import Path

import structlog
import torch

from services.families import LoadedModel
from services.families.neural_ode.series.model import LatentOde, SeriesConfig
from services.families.neural_ode.series.sampler import SeriesSampler
from services.families.neural_ode.series.tasks import ForecastTask
from services.nn.device import device_errors
from services.nn.weights import DTYPES, load_model
from shared.config.neural_ode import OdeSeriesModel


def load_series_model(config: OdeSeriesModel, folder: Path) -> LoadedModel:
    """config.json and model.safetensors, already verified.

    Raises UnsupportedModel for another kind of model, DeviceFailure if the device fails.
    """
    with device_errors():
        model = load_model(
            LatentOde, SeriesConfig, folder, dtype=DTYPES[config.dtype], device=torch.device(config.device)
        )
    shape = model.config
    weights = sum(tensor.nbytes for tensor in model.parameters())
    memory = weights + config.path_memory
    structlog.get_logger(__name__).info("model_loaded", model=config.id, memory_mb=memory >> 20)
    return LoadedModel(
        sampler=SeriesSampler(model, config.max_batch_size, config.path_memory),
        tasks={"forecast": ForecastTask(config.id, shape, config.samples)},
        memory=memory,
        limits={
            "min_points": shape.min_points,
            "max_points": shape.max_points,
            "max_intervals": shape.horizon,
            "max_step": shape.max_step,
            "max_batch_size": config.max_batch_size,
        },
        revision=config.revision,
    )
