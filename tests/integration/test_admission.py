"""A full fleet says no at once, by what its replicas learned of their own pace."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tests.integration.conftest import LocalFleet

RATE = "castalia_units_per_second"
ROWS = 16  # of the model's batch
LONG: dict[str, Any] = {"model": "llama", "prompt": "x", "max_tokens": 8000, "ignore_eos": True}


async def test_what_would_be_late_is_refused_at_once_over_http(local_fleet: LocalFleet) -> None:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=local_fleet.url, trust_env=False, timeout=60, limits=limits) as client:
        flood = [asyncio.create_task(client.post("/v1/completions", json=LONG)) for _ in range(6 * ROWS)]
        try:
            async with asyncio.timeout(60):
                while not await asyncio.to_thread(local_fleet.metric, RATE, model="llama"):  # noqa: ASYNC110 - no event says so
                    await asyncio.sleep(0.1)
            body, headers = {**LONG, "max_tokens": 4}, {"x-castalia-deadline-ms": "500"}
            late = await client.post("/v1/completions", json=body, headers=headers)
        finally:
            for task in flood:
                task.cancel()
            await asyncio.gather(*flood, return_exceptions=True)
        await asyncio.sleep(2)  # a report that was asked for in the flood counts until the next one
        async with asyncio.timeout(30):
            while (await client.post("/v1/completions", json={**LONG, "max_tokens": 1})).status_code != 200:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.1)
    assert (late.status_code, late.json()["error"]["code"]) == (503, "server_is_overloaded")
    assert "deadline" in late.json()["error"]["message"]
    assert 1 <= int(late.headers["retry-after"]) <= 30
