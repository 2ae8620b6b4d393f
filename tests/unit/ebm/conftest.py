"""A tiny energy with random weights, as a folder that the family loads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from services.families import LoadedModel
from services.families.ebm.family import load
from services.nn.percentiles import write_known
from tests.one_thread import one_thread
from tests.unit.ebm.tiny import make_data, make_folder, tiny_config

__all__ = ["one_thread"]  # a fixture is in force where it can be seen


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_folder(tmp_path_factory.mktemp("ebm"))
    # Negated energies: of all classes from -1000 to 0, of a class from -2000 to -1000.
    spread = torch.linspace(-1000, 0, 101)
    write_known(folder, {"energy": (spread, spread), "class_energy": (spread - 1000, spread - 1000)})
    return folder


@pytest.fixture(scope="package")
def loaded(folder: Path) -> LoadedModel:
    return load(tiny_config(folder), folder)


@pytest.fixture(scope="package")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))
