"""Owns the family's entry: a folder of weights becomes a loaded model, of the kind that the configuration says."""

from __future__ import annotations

from pathlib import Path

from services.families import LoadedModel
from services.families.neural_ode.images.family import load_image_model
from services.families.neural_ode.series.family import load_series_model
from shared.config.neural_ode import OdeImageModel, OdeSeriesModel


def load(config: OdeImageModel | OdeSeriesModel, folder: Path) -> LoadedModel:
    """Raises UnsupportedModel for weights of another kind, DeviceFailure if the device fails."""
    if isinstance(config, OdeImageModel):
        return load_image_model(config, folder)
    return load_series_model(config, folder)
