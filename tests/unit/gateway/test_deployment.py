"""The deployment's way in: configuration is taken over whole or not at all."""

from __future__ import annotations

import httpx
import pytest
from pydantic import ValidationError

from services.gateway.deployment import Gateway, GatewayReplica
from tests.unit.gateway.fakes import FLEET, MODEL, OTHER

CONFIG = FLEET.model_dump(mode="json")


async def models(replica: GatewayReplica) -> list[str]:
    transport = httpx.ASGITransport(replica.__serve_build_asgi_app__())
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return [card["id"] for card in (await client.get("/v1/models")).json()["data"]]


@pytest.fixture
def replica() -> GatewayReplica:
    replica = GatewayReplica()
    replica._state.dispatcher.__dict__["reports"] = _no_reports
    return replica


async def _no_reports(_: str) -> tuple[()]:
    return ()


async def test_models_follow_the_configuration(replica: GatewayReplica) -> None:
    assert await models(replica) == []
    replica.reconfigure(CONFIG)
    assert await models(replica) == [MODEL, OTHER]
    replica.reconfigure({"services": CONFIG["services"][:1]})
    assert await models(replica) == [MODEL]


async def test_a_bad_configuration_changes_nothing(replica: GatewayReplica) -> None:
    replica.reconfigure(CONFIG)
    broken = {"services": [{**CONFIG["services"][0], "colour": "red"}]}
    with pytest.raises(ValidationError, match="colour"):
        replica.reconfigure(broken)
    assert await models(replica) == [MODEL, OTHER]


async def test_the_same_configuration_again_changes_nothing(replica: GatewayReplica) -> None:
    replica.reconfigure(CONFIG)
    table = replica._state.table
    replica.reconfigure(CONFIG)
    assert replica._state.table == table


async def test_a_gateway_beyond_loopback_lets_nobody_in_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASTALIA_HOST", "0.0.0.0")
    transport = httpx.ASGITransport(GatewayReplica().__serve_build_asgi_app__())
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        assert (await client.get("/v1/models")).status_code == 401
        assert (await client.get("/healthz")).status_code == 200


def test_the_deployment_has_the_name_that_the_fleet_binds() -> None:
    assert Gateway.name == "Gateway"
