"""The example of `docs/examples`, importable as an operator's own package would be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.families import LoadedModel
from services.families.plugin.family import load
from shared.config.plugin import PluginModel
from tests.ising_checkpoint import EXAMPLES, make_ising
from tests.one_thread import one_thread

__all__ = ["one_thread"]


def plugin_config(folder: Path, **options: Any) -> PluginModel:
    entry = {"id": "ising", "source": f"file://{folder}", "sampler": "ising:IsingSampler", "tasks": ["image"]}
    return PluginModel.model_validate({**entry, "options": {"side": 16}, **options})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return make_ising(tmp_path)


@pytest.fixture
def loaded(folder: Path) -> LoadedModel:
    return load(plugin_config(folder), folder)
