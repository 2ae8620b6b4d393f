"""Tiny flows with random weights, as folders that the family loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.families import LoadedModel
from services.families.flow.family import load
from tests.one_thread import one_thread
from tests.unit.flow.tiny import make_folder, tiny_config
from tests.unit.flow.tiny_records import make_record_folder, make_split, tiny_record_config

__all__ = ["one_thread"]  # a fixture is in force where it can be seen


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("flow"))


@pytest.fixture(scope="package")
def loaded(folder: Path) -> LoadedModel:
    return load(tiny_config(folder), folder)


@pytest.fixture(scope="package")
def record_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = make_split(tmp_path_factory.mktemp("records")).table
    return make_record_folder(tmp_path_factory.mktemp("record-flow"), table)


@pytest.fixture(scope="package")
def loaded_records(record_folder: Path) -> LoadedModel:
    return load(tiny_record_config(record_folder), record_folder)
