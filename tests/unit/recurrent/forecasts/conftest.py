"""A tiny forecaster with random weights, loaded as serving does."""

from __future__ import annotations

import pytest

from services.families import LoadedModel
from services.families.recurrent.family import load
from tests.one_thread import one_thread
from tests.unit.recurrent.forecasts.tiny import forecast_config, make_forecast_folder

__all__ = ["one_thread"]  # a fixture is in force where it can be seen


@pytest.fixture(scope="package")
def forecaster(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = make_forecast_folder(tmp_path_factory.mktemp("forecaster"))
    return load(forecast_config(folder), folder)
