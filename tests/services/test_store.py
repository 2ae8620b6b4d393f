"""The store on a real PostgreSQL: all that it must do, and what happens to a gateway when the server goes."""

from __future__ import annotations

import asyncio

import pytest

from services.gateway.store.directory import Directory
from services.gateway.store.migrating import migrate
from tests.services import servers
from tests.store_suite import StoreSuite
from tests.unit.gateway.fakes import chat, make_gateway

CHAT = "/v1/chat/completions"


class TestPostgres(StoreSuite):
    @pytest.fixture
    def url(self, postgres_url: str) -> str:
        return postgres_url


async def test_two_gateways_share_keys_and_usage(postgres_url: str) -> None:
    gateways = [make_gateway(host="0.0.0.0", database_url=postgres_url) for _ in range(2)]
    await asyncio.gather(*(migrate(gateway.state.store) for gateway in gateways))
    directory = Directory(gateways[0].state.store)
    key = await directory.create_key("alice")
    for gateway in gateways:
        await gateway.state.start()
    headers = {"authorization": f"Bearer {key.text}"}
    for gateway in gateways:
        async with gateway.client(headers=headers) as client:
            assert (await client.post(CHAT, json=chat())).status_code == 200
            await gateway.state.usage.flush()
    async with gateways[0].client(headers=headers) as client:
        report = (await client.get("/v1/usage", params={"start": "2023-11-01", "end": "2023-11-30"})).json()
    assert report["total"]["requests"] == 2
    await gateways[0].state.usage.flush()
    assert gateways[0].state.usage.month_units("alice") == report["total"]["units"] > 0
    for gateway in gateways:
        await gateway.state.close()


async def test_a_lost_server_refuses_usage_alone_and_generation_goes_on() -> None:
    with servers.postgres_server() as server:
        server.create("lost")
        gateway = make_gateway(host="0.0.0.0", database_url=server.url("lost"))
        await migrate(gateway.state.store)
        key = await Directory(gateway.state.store).create_key("alice")
        await gateway.state.start()
    async with gateway.client(headers={"authorization": f"Bearer {key.text}"}) as client:
        assert (await client.post(CHAT, json=chat())).status_code == 200
        refused = await client.get("/v1/usage")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
        assert "retry-after" in refused.headers
        assert server.password not in gateway.log_text.getvalue() + refused.text
        assert (await client.post(CHAT, json=chat())).status_code == 200
    assert gateway.state.usage.month_units("alice") > 0
    await gateway.state.close()
    assert "usage_lost" in gateway.log_text.getvalue()
