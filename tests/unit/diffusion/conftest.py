"""Tiny checkpoints of every kind, made once and loaded in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.one_thread import one_thread
from tests.unit.diffusion.driver import Model, load_folder, make_emoji_checkpoint

__all__ = ["one_thread"]  # a fixture is in force where it can be seen


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            path = tmp_path_factory.mktemp(kind)
            if kind == "emoji":
                make_emoji_checkpoint(path)
            else:
                from tests.diffusers_checkpoints import make_diffusers_checkpoint

                make_diffusers_checkpoint(kind, path)
            made[kind] = path
        return made[kind]

    return folder


@pytest.fixture(scope="session")
def models(folders: Callable[[str], Path]) -> Callable[[str], Model]:
    loaded: dict[str, Model] = {}

    def model(kind: str) -> Model:
        if kind not in loaded:
            loaded[kind] = load_folder(folders(kind))
        return loaded[kind]

    return model


@pytest.fixture
def emoji(models: Callable[[str], Model]) -> Model:
    return models("emoji")
