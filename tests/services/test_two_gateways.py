"""A real fleet with two gateways and a Redis: its tenants have one budget, whichever gateway answers."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from services import fleet
from services.gateway.store.database import Store
from services.gateway.store.directory import Directory
from services.gateway.store.migrating import migrate
from shared.config.settings import Settings
from tests.integration.conftest import LocalFleet, checkpoint, start

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

BUDGET = 50
TRIES = 150
BODY = {"model": "llama", "prompt": "a", "max_tokens": 1}


async def key_of_a_tenant(home: Path) -> str:
    store = Store.of(Settings(home=home))
    await migrate(store)
    made = await Directory(store).create_key(
        "alice", lambda tenant: replace(tenant, requests_per_minute=BUDGET, is_operator=True)
    )
    await store.close()
    return made.text


@pytest.fixture
def two_gateways(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LocalFleet, str]]:
    """The fleet, and a key to it."""
    monkeypatch.setenv("CASTALIA_REDIS_URL", redis_url)
    monkeypatch.setenv("CASTALIA_GATEWAY_REPLICAS", "2")
    home = tmp_path / "home"
    home.mkdir()
    key = asyncio.run(key_of_a_tenant(home))
    model = {"id": "llama", "source": checkpoint(tmp_path / "llama", "llama")}
    service = {"name": "chat", "family": "transformer", "resources": {"memory": "1GiB"}, "models": [model]}
    running = start(tmp_path, {"services": [service]}, name="gateways")
    try:
        yield running, key
    finally:
        fleet.down("gateways", running.settings.home)


def ask(url: str, key: str) -> int:
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=60) as client:
        return client.post("/v1/completions", json=BODY).status_code


def refusals_by_gateway(url: str, key: str) -> list[int]:
    """Each gateway's own count. Which one answers is chance."""
    found: dict[str, int] = {}
    for _ in range(100):
        text = httpx.get(f"{url}/metrics", headers={"authorization": f"Bearer {key}"}, trust_env=False).text
        served = re.search(r'castalia_request_seconds_sum\{.*gateway="([^"]+)".*route="/v1/completions"\}', text)
        refused = re.search(r'castalia_limit_refusals_total\{.*limit="requests",tenant="alice"\} (\d+)', text)
        if served is not None:
            found[served[1]] = int(refused[1]) if refused else 0
        if len(found) == 2:
            break
    return list(found.values())


def test_two_gateways_of_a_fleet_admit_one_budget(two_gateways: tuple[LocalFleet, str]) -> None:
    running, key = two_gateways
    assert len(running.processes("ray::ServeReplica:gateway:Gateway")) == 2
    left_s = 60 - time.time() % 60
    if left_s < 30:  # all within one minute
        time.sleep(left_s + 0.1)
    with ThreadPoolExecutor(8) as pool:
        statuses = Counter(pool.map(lambda _: ask(running.url, key), range(TRIES)))
    assert statuses == {200: BUDGET, 429: TRIES - BUDGET}
    refusals = refusals_by_gateway(running.url, key)
    assert len(refusals) == 2
    assert min(refusals) > 0
    assert sum(refusals) == TRIES - BUDGET
