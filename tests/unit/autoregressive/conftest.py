"""Tiny models with random weights, as folders that the family loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.families import LoadedModel
from services.families.autoregressive.family import load
from tests.one_thread import one_thread
from tests.unit.autoregressive.tiny import DRUMS, WORDS, make_folder, sound_config, speech_config

__all__ = ["one_thread"]  # a fixture is in force where it can be seen


@pytest.fixture(scope="package")
def words_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("words"), WORDS)


@pytest.fixture(scope="package")
def loaded_words(words_folder: Path) -> LoadedModel:
    return load(speech_config(words_folder), words_folder)


@pytest.fixture(scope="package")
def drums_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("drums"), DRUMS)


@pytest.fixture(scope="package")
def loaded_drums(drums_folder: Path) -> LoadedModel:
    return load(sound_config(drums_folder), drums_folder)
