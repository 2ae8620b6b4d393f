"""Tiny models with random weights, as folders that the family loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.families import LoadedModel
from services.families.pixelcnn.family import load
from tests.one_thread import one_thread
from tests.unit.pixelcnn.tiny import LEVELS, image_config, level_config, make_folder

__all__ = ["one_thread"]  # a fixture is in force where it can be seen


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("pixelcnn"))


@pytest.fixture(scope="package")
def loaded(folder: Path) -> LoadedModel:
    return load(image_config(folder), folder)


@pytest.fixture(scope="package")
def levels_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("levels"), LEVELS)


@pytest.fixture(scope="package")
def loaded_levels(levels_folder: Path) -> LoadedModel:
    return load(level_config(levels_folder), levels_folder)
