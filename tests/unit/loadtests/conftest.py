"""Locust replaces the standard library's sockets as it is imported, under which asyncio's tests would not run."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

os.environ["LOCUST_SKIP_MONKEY_PATCH"] = "1"
import locust  # noqa: F401

del os.environ["LOCUST_SKIP_MONKEY_PATCH"]  # the processes of Locust that tests start are to be as ever

from tests.unit.loadtests.fake_fleet import FakeFleet


@pytest.fixture
def fake_fleet() -> Generator[FakeFleet]:
    with FakeFleet().serving() as fleet:
        yield fleet
