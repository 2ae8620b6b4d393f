from __future__ import annotations

from pathlib import Path

import pytest

from services.families import LoadedModel
from services.families.recurrent.family import load
from tests.unit.recurrent.molecules.tiny import make_config, make_folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("molecules"))


@pytest.fixture(scope="session")
def loaded(folder: Path) -> LoadedModel:
    return load(make_config(folder), folder)
