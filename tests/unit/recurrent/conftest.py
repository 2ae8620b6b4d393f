"""Tiny loaded models of every cell."""

from __future__ import annotations

import pytest

from services.families import LoadedModel
from services.families.recurrent.family import load
from tests.one_thread import one_thread
from tests.unit.recurrent.tiny import CELLS, text_config, tiny_folder

__all__ = ["one_thread"]


@pytest.fixture(scope="session", params=CELLS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tiny_folder(request.param, tmp_path_factory.mktemp(f"recurrent-{request.param}"))
    return load(text_config(folder, context_length=256), folder)


@pytest.fixture(scope="session")
def lstm(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tiny_folder("lstm", tmp_path_factory.mktemp("recurrent-alone"))
    return load(text_config(folder, context_length=256), folder)
