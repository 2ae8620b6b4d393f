"""Tiny checkpoints, made once and loaded through the family's own `load`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from tests.checkpoints import make_checkpoint
from tests.one_thread import one_thread
from tests.shape_checkpoints import PAIRS, make_dialogue, make_embedder, make_masked, make_pair
from tests.unit.transformer.driver import Loaded, load_folder

__all__ = ["one_thread"]  # a fixture is in force where it can be seen


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    made: dict[Any, Path] = {}

    def folder(architecture: str, **options: Any) -> Path:
        key = (architecture, *sorted(options.items()))
        if key not in made:
            made[key] = make_checkpoint(architecture, tmp_path_factory.mktemp(architecture), **options)
        return made[key]

    return folder


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Checkpoints that are no plain decoders, by name."""
    makers: dict[str, Callable[..., Path]] = {
        **{name: partial(make_pair, name) for name in PAIRS},
        **{name: partial(make_masked, name) for name in ("bert", "roberta")},
        "embedder": make_embedder,
        "dialogue": make_dialogue,
    }
    made: dict[Any, Path] = {}

    def folder(name: str, **options: Any) -> Path:
        key = (name, *sorted(options.items()))
        if key not in made:
            made[key] = makers[name](tmp_path_factory.mktemp(name), **options)
        return made[key]

    return folder


@pytest.fixture
def llama(folders: Callable[..., Path]) -> Loaded:
    return load_folder(folders("llama"))


@pytest.fixture(scope="session")
def reference() -> Callable[[Path], PreTrainedModel]:
    """The checkpoint as transformers runs it, with its own attention and cache."""
    models: dict[Path, PreTrainedModel] = {}

    def model(folder: Path) -> PreTrainedModel:
        if folder not in models:
            models[folder] = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        return cast(PreTrainedModel, models[folder])

    return model
