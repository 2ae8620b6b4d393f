"""Tiny generators with random weights, as folders that the family loads."""

from __future__ import annotations

from collections.abc import Generator as Yields
from pathlib import Path

import pytest
import torch

from services.families import LoadedModel
from services.families.gan.family import load
from tests.unit.gan.tiny import make_folder, tiny_config


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Yields[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("gan"))


@pytest.fixture(scope="package")
def loaded(folder: Path) -> LoadedModel:
    return load(tiny_config(folder), folder)
