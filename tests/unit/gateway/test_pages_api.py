"""What the fleet page reads: the services with their replicas, the cards of models, and the usage of all tenants."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.gateway.cards import read_card
from services.gateway.store.directory import Directory
from services.gateway.store.usage_rows import UsageRow, add_usage
from shared.config.models import FleetConfig
from shared.errors import NotFound
from shared.schemas.fleet import CardDocument, FleetStatus
from shared.schemas.usage import TenantsUsage
from tests.unit.gateway.fakes import MODEL, OTHER, FakeDispatcher, Gateway, chat, make_gateway, report

FLEET, CARDS, USAGE = "/v1/fleet", "/v1/cards", "/v1/usage/tenants"
REMOTE = FleetConfig.model_validate(
    {
        "services": [
            {
                "name": "far",
                "family": "upstream",
                "url": "https://models.example/v1",
                "models": [{"id": "theirs", "remote_id": "x", "context_length": 1024}],
            }
        ]
    }
)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncGenerator[Gateway]:
    """On a store of its own, where nobody needs a key."""
    dispatcher = FakeDispatcher(known={"chat": [report(replica="a"), report(replica="b", state="loading")]})
    gateway = make_gateway(dispatcher, database_url=f"sqlite:///{tmp_path}/gateway.db", usage_flush_s=60)
    await gateway.state.start()
    yield gateway
    await gateway.state.close()


async def test_the_fleet_is_its_services_with_the_replicas_that_answer(gateway: Gateway) -> None:
    async with gateway.client() as client:
        fleet = FleetStatus.model_validate((await client.get(FLEET)).json())
    busy, idle = fleet.services
    assert (busy.name, busy.models, busy.min_replicas, busy.max_replicas) == ("chat", [MODEL], 1, 1)
    assert [(replica.replica, replica.models[0].state) for replica in busy.replicas] == [
        ("a", "ready"),
        ("b", "loading"),
    ]
    figures = busy.replicas[0].models[0].model_dump(exclude={"model", "state"})
    assert figures == {
        "waiting_rows": 1,
        "running_rows": 2,
        "steps": 10,
        "row_steps": 15,
        "units": 99.5,
        "finished_rows": {"stop": 4, "abort": 1},
        "first_chunks": 6,
        "first_chunk_seconds": 4.5,
    }
    assert (idle.name, idle.models, idle.min_replicas, idle.replicas) == ("cold", [OTHER], 0, [])


async def test_a_service_of_a_remote_server_has_no_bounds() -> None:
    async with make_gateway(fleet=REMOTE).client() as client:
        (service,) = FleetStatus.model_validate((await client.get(FLEET)).json()).services
    assert (service.name, service.min_replicas, service.max_replicas) == ("far", None, None)


def cards_of(folder: Path) -> Path:
    """Families of which one has a model with a card."""
    weights = folder / "any" / "weights" / "tiny"
    (weights / "sheets").mkdir(parents=True)
    (weights / "MODEL_CARD.md").write_text("# tiny\n\n☃\n")
    for name in ("sheets/b.png", "sheets/a.png", "held_out.csv", "held_out.safetensors"):
        (weights / name).write_bytes(name.encode())
    return folder


def model_of(source: str) -> Any:
    models = [{"id": "m", "source": source}]
    fleet = FleetConfig.model_validate({"services": [{"name": "s", "family": "transformer", "models": models}]})
    return fleet.services[0].models[0]


def test_a_card_has_its_text_its_sheets_and_a_sample_that_is_a_text(tmp_path: Path) -> None:
    card = read_card(model_of("builtin://tiny"), cards_of(tmp_path))
    assert (card.model, card.markdown) == ("m", "# tiny\n\n☃\n")
    assert [(sheet.name, sheet.media_type) for sheet in card.sheets] == [("a.png", "image/png"), ("b.png", "image/png")]
    assert card.held_out is not None
    assert (card.held_out.media_type, base64.b64decode(card.held_out.b64)) == ("text/csv", b"held_out.csv")


@pytest.mark.parametrize(
    "source", ["builtin://other", "builtin://*", "builtin://../weights/tiny", "file:///any/weights/tiny"]
)
def test_other_models_have_no_card(tmp_path: Path, source: str) -> None:
    with pytest.raises(NotFound):
        read_card(model_of(source), cards_of(tmp_path))


async def test_a_built_in_models_card_is_answered_and_others_are_404() -> None:
    models = [{"id": "a/story", "source": "builtin://story-gpt"}, {"id": "none", "source": "file:///none"}]
    fleet = FleetConfig.model_validate(
        {
            "services": [{"name": "s", "family": "transformer", "models": models}],
            "routes": [{"name": "alias", "targets": [{"model": "none"}]}],
        }
    )
    async with make_gateway(fleet=fleet).client() as client:
        card = CardDocument.model_validate((await client.get(f"{CARDS}/a/story")).json())
        failed = [(await client.get(f"{CARDS}/{name}")).json()["error"]["code"] for name in ("none", "alias", "absent")]
    assert card.markdown.startswith("---")
    assert card.sheets
    assert failed == ["not_found", "model_not_found", "model_not_found"]


async def test_usage_of_tenants_adds_up_their_models_and_days(gateway: Gateway) -> None:
    keys = [(tenant, model) for tenant in ("b", "a") for model in ("x", "y")]
    rows = [UsageRow(*key, "2023-11-02", requests=1, units=2.0) for key in keys]
    old = UsageRow("a", "x", "2023-10-31", units=100.0)
    async with gateway.state.store.begin() as connection:
        await add_usage(connection, [*rows, old])
    async with gateway.client() as client:
        await client.post("/v1/chat/completions", json=chat())
        usage = TenantsUsage.model_validate((await client.get(USAGE)).json())
        asked = {"model": "x", "start": "2023-10-01"}
        of_x = TenantsUsage.model_validate((await client.get(USAGE, params=asked)).json())
        wrong = await client.get(USAGE, params={"group_by": "day"})
    assert [(entry.tenant, entry.requests, entry.units) for entry in usage.data] == [
        ("a", 2, 4.0),
        ("b", 2, 4.0),
        ("default", 1, 9.0),
    ]
    assert (usage.total.requests, usage.total.units) == (5, 17.0)
    assert [(entry.tenant, entry.units) for entry in of_x.data] == [("a", 102.0), ("b", 2.0)]
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "group_by")


async def test_what_is_for_operators_alone_is_refused_and_cards_follow_the_models_of_a_key(gateway: Gateway) -> None:
    directory = Directory(gateway.state.store)
    alice = await directory.create_key("alice", lambda tenant: replace(tenant, models=frozenset({OTHER})))
    await gateway.state.keys.close()
    await gateway.state.keys.start()
    async with gateway.client(headers={"authorization": f"Bearer {alice.text}"}) as client:
        asked = (FLEET, USAGE, f"{CARDS}/{MODEL}")
        codes = [(await client.get(path)).json()["error"]["code"] for path in asked]
    assert codes == ["operator_only", "operator_only", "model_not_found"]
