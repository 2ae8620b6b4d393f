"""A tiny model of tunes, loaded as serving does."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.families import LoadedModel
from services.families.recurrent.family import load
from tests.one_thread import one_thread
from tests.unit.recurrent.music.tiny import music_config, tiny_folder

__all__ = ["one_thread"]  # a fixture is in force where it can be seen


@pytest.fixture(scope="package")
def music_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("music"))


@pytest.fixture(scope="package")
def fiddler(music_folder: Path) -> LoadedModel:
    return load(music_config(music_folder), music_folder)
