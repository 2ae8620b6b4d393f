from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.unit.batches.desk import Desk, desk_on


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncGenerator[Desk]:
    """A store in a file, blobs in a folder, and a model that answers at once."""
    async with desk_on(f"sqlite:///{tmp_path / 'store.db'}", tmp_path / "blobs") as desk:
        yield desk
