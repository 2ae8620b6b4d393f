"""The image, built once a session from this tree, or the one that CASTALIA_TEST_IMAGE names."""

from __future__ import annotations

import os

import pytest

from tests.images.engine import build, ensure_base, require_tools


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    require_tools()
    if given := os.environ.get("CASTALIA_TEST_IMAGE"):
        return given
    ensure_base(tmp_path_factory.mktemp("debian") / "base")
    return build("cpu")
