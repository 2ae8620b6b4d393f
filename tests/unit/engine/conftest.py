"""The fixture of the threaded engine's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.unit.engine.threaded import Fleet, Start


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    fleets: list[Fleet] = []

    async def make(max_waiting_cost: float = 1e9, **options: Any) -> Fleet:
        fleets.append(Fleet(max_waiting_cost, **options))
        await fleets[-1].engine.start()
        return fleets[-1]

    yield make
    for fleet in fleets:
        fleet.sampler.let_all_pass()
        await fleet.engine.stop()
