"""Owns the way from a folder of weights to a loaded forecaster."""

from __future__ import annotations

from pathlib import Path

import structlog
import torch

from services.families import LoadedModel
from services.families.recurrent.forecasts.model import ForecastConfig, ForecastLstm
from services.families.recurrent.forecasts.sampler import ForecastSampler
from services.families.recurrent.forecasts.tasks import ForecastTask
from services.nn.device import device_errors
from services.nn.weights import DTYPES, load_model
from shared.config.recurrent import RecurrentForecastModel


def load_forecast_model(config: RecurrentForecastModel, folder: Path) -> LoadedModel:
    """config.json and model.safetensors, already verified.

    Raises UnsupportedModel for another kind of model, DeviceFailure if the device fails.
    """
    with device_errors():
        model = load_model(
            ForecastLstm, ForecastConfig, folder, dtype=DTYPES[config.dtype], device=torch.device(config.device)
        )
    shape = model.config
    memory = sum(tensor.nbytes for tensor in model.parameters()) + config.path_memory
    structlog.get_logger(__name__).info("model_loaded", model=config.id, memory_mb=memory >> 20)
    return LoadedModel(
        sampler=ForecastSampler(model, config.max_batch_size, config.path_memory),
        tasks={"forecast": ForecastTask(config.id, shape, config.samples)},
        memory=memory,
        limits={
            "min_points": shape.min_points,
            "max_points": shape.max_points,
            "max_horizon": shape.horizon,
            "max_period": shape.max_season,
            "max_batch_size": config.max_batch_size,
        },
        revision=config.revision,
    )
