"""Tiny machines with random weights, as folders that the family loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.families import LoadedModel
from services.families.boltzmann.family import load
from tests.one_thread import one_thread
from tests.unit.boltzmann.tiny import DBM, make_folder, tiny_config

__all__ = ["one_thread"]  # a fixture is in force where it can be seen


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("rbm"))


@pytest.fixture(scope="package")
def loaded(folder: Path) -> LoadedModel:
    return load(tiny_config(folder), folder)


@pytest.fixture(scope="package")
def deep(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = make_folder(tmp_path_factory.mktemp("dbm"), DBM)
    return load(tiny_config(folder), folder)
