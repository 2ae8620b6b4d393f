"""Tiny models with random weights, loaded as serving does."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.families import LoadedModel
from services.families.neural_ode.family import load
from tests.one_thread import one_thread
from tests.unit.neural_ode.tiny import image_config, make_flow_folder, make_series_folder, series_config

__all__ = ["one_thread"]  # a fixture is in force where it can be seen


@pytest.fixture(scope="package")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_flow_folder(tmp_path_factory.mktemp("flow"))


@pytest.fixture(scope="package")
def series_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_series_folder(tmp_path_factory.mktemp("series"))


@pytest.fixture(scope="package")
def images(image_folder: Path) -> LoadedModel:
    return load(image_config(image_folder), image_folder)


@pytest.fixture(scope="package")
def series(series_folder: Path) -> LoadedModel:
    return load(series_config(series_folder), series_folder)
