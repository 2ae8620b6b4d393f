"""The tiny voice's file, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.vits.tiny import write_voice


@pytest.fixture(scope="session")
def voice_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_voice(tmp_path_factory.mktemp("voice"))
