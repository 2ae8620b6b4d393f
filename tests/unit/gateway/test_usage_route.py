"""`/v1/usage`: a tenant reads its own, at once, and is told what it asked wrongly."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.gateway.store.directory import Directory
from services.gateway.store.usage_rows import UsageRow, add_usage
from shared.events import Accepted, Failed, Finished, RowEvent, TextDelta
from tests.unit.gateway.conftest import Serve
from tests.unit.gateway.fakes import MODEL, Gateway, chat, make_gateway, play
from tests.unit.gateway.store_faults import bring_back, take_away

CHAT = "/v1/chat/completions"
DAY = "2023-11-14"  # of these gateways' clock
ROUND = {"start": "2023-11-01", "end": "2023-11-30"}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncGenerator[Gateway]:
    """On a store of its own, where nobody needs a key."""
    gateway = make_gateway(database_url=f"sqlite:///{tmp_path}/gateway.db", usage_flush_s=60)
    await gateway.state.start()
    yield gateway
    await gateway.state.close()


async def usage_of(client: httpx.AsyncClient, **query: str) -> Any:
    response = await client.get("/v1/usage", params=query)
    assert response.status_code == 200, response.text
    return response.json()


async def test_an_answer_is_in_the_usage_at_once(gateway: Gateway) -> None:
    async with gateway.client() as client:
        await client.post(CHAT, json=chat())
        report = await usage_of(client)
    (entry,) = report["data"]
    assert (report["tenant"], report["start"], report["end"]) == ("default", "2023-11-01", DAY)
    assert entry == {
        "object": "usage",
        "day": DAY,
        "model": MODEL,
        "requests": 1,
        "prompt_tokens": 5,
        "completion_tokens": 4,
        "images": 0,
        "units": 9.0,
    }
    assert report["total"] == {key: entry[key] for key in report["total"]}


async def test_a_cut_stream_is_charged_the_tokens_that_were_sent(serve: Serve) -> None:
    gateway = make_gateway(usage_flush_s=60)
    piece = [RowEvent(0, TextDelta("Hel", 5, 2))]
    failure = [RowEvent(0, Failed(500, "server_error", None, None, "It failed."))]
    gateway.dispatcher.scripts.append(play([RowEvent(0, Accepted(1))], piece, failure))
    async with httpx.AsyncClient(base_url=await serve(gateway.app), trust_env=False) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(CHAT, json=chat(stream=True))
        report = await usage_of(client)
    assert (report["total"]["requests"], report["total"]["units"]) == (1, 7.0)


async def test_usage_is_grouped_by_day_or_model(gateway: Gateway) -> None:
    rows = [UsageRow("default", m, d, requests=1, units=2.0) for m in ("a", "b") for d in ("2023-11-02", "2023-11-03")]
    async with gateway.state.store.begin() as connection:
        await add_usage(connection, [*rows, UsageRow("other", "a", "2023-11-02", units=100.0)])
    async with gateway.client() as client:
        whole, by_day, by_model, of_b = [
            await usage_of(client, **ROUND, **query)
            for query in ({}, {"group_by": "day"}, {"group_by": "model"}, {"model": "b"})
        ]
    assert len(whole["data"]) == 4
    days = [(entry["day"], entry["model"], entry["units"]) for entry in by_day["data"]]
    assert days == [("2023-11-02", None, 4.0), ("2023-11-03", None, 4.0)]
    models = [(entry["day"], entry["model"], entry["units"]) for entry in by_model["data"]]
    assert models == [(None, "a", 4.0), (None, "b", 4.0)]
    assert of_b["total"]["units"] == 4.0
    assert whole["total"] == by_day["total"] == by_model["total"]


async def test_a_tenant_sees_its_own_usage_alone(gateway: Gateway) -> None:
    directory = Directory(gateway.state.store)
    alice, bob = [await directory.create_key(name) for name in ("alice", "bob")]
    await gateway.state.keys.close()
    await gateway.state.keys.start()
    async with gateway.client(headers={"authorization": f"Bearer {alice.text}"}) as client:
        await client.post(CHAT, json=chat())
        assert (await usage_of(client))["total"]["requests"] == 1
    async with gateway.client(headers={"authorization": f"Bearer {bob.text}"}) as client:
        assert (await usage_of(client))["data"] == []


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("start=yesterday", "start"),
        ("start=2023-02-30", "start"),
        ("start=2023-11-10&end=2023-11-09", "start"),
        ("start=2020-01-01&end=2023-01-01", "start"),
        ("group_by=tenant", "group_by"),
        ("tenant=other", "tenant"),
        ("model=a&model=b", "model"),
        ("model=" + "x" * 200, "model"),
    ],
)
async def test_a_wrong_parameter_is_named(gateway: Gateway, query: str, param: str) -> None:
    async with gateway.client() as client:
        response = await client.get(f"/v1/usage?{query}")
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_without_the_store_usage_is_refused_and_generation_goes_on(gateway: Gateway) -> None:
    await take_away(gateway.state.store, "usage")
    async with gateway.client() as client:
        response = await client.get("/v1/usage")
        assert (response.status_code, response.json()["error"]["code"]) == (503, "store_unavailable")
        assert "retry-after" in response.headers
        assert (await client.post(CHAT, json=chat())).status_code == 200
        await bring_back(gateway.state.store, "usage")
        assert (await usage_of(client))["total"]["requests"] == 1


async def test_two_finished_rows_are_two_rows_of_work(gateway: Gateway) -> None:
    rows = [RowEvent(0, TextDelta("a", 5, 1)), RowEvent(1, TextDelta("b", 5, 1))]
    ends = [RowEvent(0, Finished("stop", 6)), RowEvent(1, Finished("stop", 6))]
    gateway.dispatcher.scripts.append(play([RowEvent(0, Accepted(2)), *rows, *ends]))
    async with gateway.client() as client:
        await client.post(CHAT, json=chat(n=2))
        assert (await usage_of(client))["total"]["units"] == 12.0
