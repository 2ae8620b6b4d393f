"""One fleet whose only model vLLM runs, its build for CPUs. Without vLLM here, nothing of this folder is collected."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from loadtests.bench_models import smollm2
from services import fleet
from shared.config.settings import Settings
from tests.integration.conftest import LocalFleet, start

collect_ignore_glob = [] if find_spec("vllm") else ["test_*.py"]

MODEL = "smollm2"
ROWS = 4
CONTEXT = 512


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.vllm)


@pytest.fixture(scope="session")
def folder() -> Path:
    """The checkpoint of SmolLM2."""
    return smollm2(Settings().home)


@pytest.fixture(scope="session")
def local_fleet(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFleet]:
    model: dict[str, Any] = {
        "id": MODEL,
        "engine": "vllm",
        "source": f"file://{folder}",
        "context_length": CONTEXT,
        "max_batch_size": ROWS,
        "cache_memory": "256MiB",
        "enforce_eager": True,
    }
    service = {"name": "chat", "family": "transformer", "resources": {"memory": "8GiB"}, "models": [model]}
    running = start(tmp_path_factory.mktemp("vllm"), {"services": [service]}, name="vllm")
    try:
        yield running
    finally:
        fleet.down("vllm", running.settings.home)
