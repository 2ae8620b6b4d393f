"""What stands in for a target that fails or is not ready, and what becomes of copies."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from services.gateway.api_keys import TENANT_NAME
from services.gateway.board import ReportBoard
from services.gateway.dispatcher import ReplicaLost
from services.gateway.forecast import Forecast
from services.gateway.mirror import COPIES_OF
from services.gateway.tenants import Tenant
from shared.calls import Call, Priority
from shared.config.models import FleetConfig
from shared.errors import InternalError, InvalidRequest, Overloaded
from shared.events import Failed, RowEvent
from shared.reports import ModelState
from tests.unit.gateway.conftest import Serve
from tests.unit.gateway.fakes import (
    ACCEPTED,
    FakeDispatcher,
    Gateway,
    Script,
    chat,
    events_of,
    fail_with,
    make_gateway,
    play,
    report,
    text,
)
from tests.unit.gateway.image_fakes import FLEET_WITH_IMAGES, PAINTER, draw
from tests.unit.gateway.route_fakes import (
    CHAT,
    DOWN,
    Everybody,
    ask,
    asked,
    by_model,
    fleet,
    gateway_of,
    route,
)


async def test_what_fails_before_it_answers_is_stood_in_for_and_the_answer_names_who_did() -> None:
    default = by_model(stable=play(ReplicaLost("killed")), canary=fail_with(DOWN))
    gateway = gateway_of(route("stable", fallbacks=["canary", "spare"]), default=default)
    whole = await ask(gateway)
    streamed = await ask(gateway, stream=True)
    assert (whole.status_code, whole.json()["model"]) == (200, "spare")
    chunks = events_of(streamed.text)
    assert chunks[-1] == "[DONE]"
    assert {chunk["model"] for chunk in chunks[:-1]} == {"spare"}
    assert asked(gateway) == ["stable", "canary", "spare"] * 2
    assert [line["model"] for line in gateway.log_lines()] == ["spare", "spare"]


async def test_a_whole_answer_that_breaks_off_is_made_anew_without_a_trace_of_the_first() -> None:
    broken = play(ACCEPTED, text("a piece of an answer"), ReplicaLost("killed"))
    gateway = gateway_of(route("stable", fallbacks=["spare"]), default=by_model(stable=broken))
    answer = (await ask(gateway)).json()
    assert answer["choices"][0]["message"]["content"] == 'Hello world ☃"\n'
    assert answer["usage"]["completion_tokens"] == 4
    assert gateway.log_lines()[0]["units"] == 9


async def test_a_stream_that_breaks_off_is_cut_and_nobody_stands_in(serve: Serve) -> None:
    broken = play(ACCEPTED, text("a"), ReplicaLost("killed"))
    gateway = gateway_of(route("stable", fallbacks=["spare"]), default=by_model(stable=broken))
    async with (
        httpx.AsyncClient(base_url=await serve(gateway.app), trust_env=False) as client,
        client.stream("POST", CHAT, json=chat(model="front", stream=True)) as answer,
    ):
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            await answer.aread()
    assert asked(gateway) == ["stable"]


async def test_a_clients_own_mistake_is_not_tried_elsewhere() -> None:
    wrong = fail_with(Failed.of(InvalidRequest("no such thing", param="messages")))
    gateway = gateway_of(route("stable", fallbacks=["spare"]), default=by_model(stable=wrong))
    response = await ask(gateway)
    assert (response.status_code, response.json()["error"]["message"]) == (400, "no such thing")
    assert asked(gateway) == ["stable"]


async def test_when_all_fail_the_first_ones_refusal_is_told() -> None:
    default = by_model(stable=fail_with(DOWN), spare=fail_with(Failed.of(InternalError())))
    response = await ask(gateway_of(route("stable", fallbacks=["spare"]), default=default))
    assert (response.status_code, response.json()["error"]["message"]) == (503, "full")


@pytest.mark.parametrize("state", ["loading", "failed"])
async def test_a_target_that_is_known_not_to_be_ready_is_led_around(state: ModelState) -> None:
    gateway = gateway_of(route("stable", fallbacks=["spare"]), stable=state, spare="ready")
    assert (await ask(gateway)).json()["model"] == "spare"
    assert asked(gateway) == ["spare"]
    await gateway.state.close()


async def test_a_service_at_rest_is_led_around_and_woken_once() -> None:
    gateway = gateway_of(route("stable", fallbacks=["spare"]), spare="ready")
    woken: list[str] = []
    started = asyncio.Event()

    async def ping(service: str) -> None:
        woken.append(service)
        await started.wait()

    gateway.dispatcher.__dict__["ping"] = ping
    for _ in range(3):
        assert (await ask(gateway)).json()["model"] == "spare"
    await asyncio.sleep(0)
    assert woken == ["stable"]
    await gateway.state.close()


async def test_a_model_that_is_cold_on_a_running_replica_is_asked_so_that_it_is_loaded() -> None:
    gateway = gateway_of(route("stable", fallbacks=["spare"]), stable="cold", spare="ready")
    assert (await ask(gateway)).json()["model"] == "stable"
    await gateway.state.close()


async def test_a_model_that_failed_on_one_replica_and_is_cold_on_another_is_asked() -> None:
    gateway = gateway_of(route("stable", fallbacks=["spare"]), spare="ready")
    replicas = [report("stable", service="stable", state=state, replica=state) for state in ("failed", "cold")]
    gateway.dispatcher.known["stable"] = replicas
    assert (await ask(gateway)).json()["model"] == "stable"
    await gateway.state.close()


async def test_a_target_that_is_not_ready_is_asked_when_nothing_else_is() -> None:
    gateway = gateway_of(route("stable", fallbacks=["spare"]), stable="loading", spare="loading")
    assert (await ask(gateway)).json()["model"] == "stable"
    await gateway.state.close()


async def test_silence_is_not_taken_for_a_service_that_is_down() -> None:
    gateway = gateway_of(route("stable", fallbacks=["spare"]), spare="ready")
    gateway.dispatcher.known["stable"] = ReplicaLost("no report came back")
    assert (await ask(gateway)).json()["model"] == "stable"
    await gateway.state.close()


async def test_a_prediction_of_lateness_leads_to_the_next_and_is_told_if_all_are_late() -> None:
    gateway = gateway_of(route("stable", fallbacks=["spare"]), stable="ready", spare="ready")
    late = {"stable"}
    gateway.state.forecast = _Pessimist(gateway.state.board, late)
    assert (await ask(gateway)).json()["model"] == "spare"
    late.add("spare")
    response = await ask(gateway)
    assert (response.status_code, response.json()["error"]["message"]) == (503, "stable is late")
    assert asked(gateway) == ["spare"]
    await gateway.state.close()


class _Pessimist(Forecast):
    """A forecast for which these services are too busy."""

    def __init__(self, board: ReportBoard, late: set[str]) -> None:
        super().__init__(board)
        self._late = late

    def check(self, service: str, call: Call, bound: float) -> None:
        if service in self._late:
            raise Overloaded(f"{service} is late")


async def test_the_drawn_target_is_stood_in_for_by_the_other_but_never_by_itself() -> None:
    config = route("stable", ("canary", 1e9), fallbacks=["canary", "stable"])
    gateway = gateway_of(config, default=by_model(canary=fail_with(DOWN)))
    assert (await ask(gateway)).json()["model"] == "stable"
    assert asked(gateway) == ["canary", "stable"]


async def copies_of(gateway: Gateway, count: int) -> list[Call]:
    """Ask so often; the copies that came of it once all have ended."""
    for _ in range(count):
        assert (await ask(gateway, stream=True)).status_code == 200
    await asyncio.gather(*gateway.state.mirror._copies)
    return [call for _, call in gateway.dispatcher.calls if call.tenant.startswith(COPIES_OF)]


def mirrored(gateway: Gateway, outcome: str) -> float:
    return (
        gateway.state.metrics.registry.get_sample_value(
            "castalia_mirrored_total", {"model": "spare", "outcome": outcome}
        )
        or 0.0
    )


async def test_a_mirror_gets_copies_in_batch_priority_whose_answers_nobody_sees() -> None:
    gateway = gateway_of(route("stable", mirror={"model": "spare"}))
    first, *others = await copies_of(gateway, 5)
    assert len(others) == 4
    assert (first.model, first.priority, first.flush_s) == ("spare", Priority.BATCH, None)
    assert asked(gateway) == ["stable"] * 5
    assert mirrored(gateway, "ok") == 5
    assert [line["model"] for line in gateway.log_lines()] == ["stable"] * 5


async def test_the_copies_of_a_tenant_compete_for_themselves_and_meet_no_other_tenants() -> None:
    """The tenant's name is the salt of what rows share, and decides whose turn it is."""
    gateway = gateway_of(route("stable", mirror={"model": "spare"}))
    seen: list[str] = []
    for name in ("me", "mirror"):
        gateway.state.keys = Everybody(Tenant(name))
        seen.append((await copies_of(gateway, 1))[-1].tenant)
    assert len({*seen, "me", "mirror"}) == 4
    assert not any(re.fullmatch(TENANT_NAME, name) for name in seen), "a tenant could be named so"


async def test_a_copy_of_what_gives_pictures_sends_them_one_by_one_as_its_original_does() -> None:
    """Together they may exceed what a message holds."""
    services = FLEET_WITH_IMAGES.model_dump(mode="json", exclude_unset=True)["services"]
    services[-1]["models"].append({"id": "copyist", "source": "builtin://copyist"})
    config = {"services": services, "routes": [route(PAINTER, mirror={"model": "copyist"})]}
    gateway = make_gateway(FakeDispatcher(draw), fleet=FleetConfig.model_validate(config))
    async with gateway.client() as client:
        answer = await client.post("/v1/images/generations", json={"model": "front", "prompt": "a heart"})
    await asyncio.gather(*gateway.state.mirror._copies)
    assert answer.status_code == 200
    assert [call.flush_s for _, call in gateway.dispatcher.calls] == [0.0, 0.0]


async def test_a_mirror_gets_its_share() -> None:
    gateway = gateway_of(route("stable", mirror={"model": "spare", "share": 0.25}))
    assert abs(len(await copies_of(gateway, 100)) - 25) < 3.9 * (100 * 0.25 * 0.75) ** 0.5


@pytest.mark.parametrize("failure", [fail_with(DOWN), play(ReplicaLost("gone")), play(ValueError("a bug"))])
async def test_a_mirror_that_fails_fails_alone(failure: Script) -> None:
    gateway = gateway_of(route("stable", mirror={"model": "spare"}), default=by_model(spare=failure))
    await copies_of(gateway, 1)
    assert mirrored(gateway, "failed") == 1


async def test_a_mirror_that_hangs_holds_nobody_up_and_drops_what_is_over_its_bound() -> None:
    forever = asyncio.Event()

    async def hang(_: Call) -> AsyncGenerator[list[RowEvent], None]:
        await forever.wait()
        yield []

    gateway = gateway_of(route("stable", mirror={"model": "spare"}), default=by_model(spare=hang))
    for _ in range(20):
        assert (await ask(gateway)).status_code == 200
    assert gateway.state.mirror.running == 16
    assert mirrored(gateway, "dropped") == 4
    await gateway.state.close()
    assert gateway.dispatcher.open == 0


async def test_a_route_that_changes_leads_calls_on_their_way_that_found_nobody() -> None:
    gateway = gateway_of(route("stable"))

    async def leaving(call: Call) -> AsyncGenerator[list[RowEvent], None]:
        gateway.state.configure(fleet(route("spare")))  # the new configuration comes while the old service goes
        raise ReplicaLost("gone")
        yield []

    gateway.dispatcher.default = by_model(stable=leaving)
    assert (await ask(gateway)).json()["model"] == "spare"


async def test_one_charge_is_taken_whatever_is_tried() -> None:
    gateway = gateway_of(route("stable", fallbacks=["spare"]), default=by_model(stable=fail_with(DOWN)))
    taken: list[str] = []
    take = gateway.state.limiter.take

    async def counted(tenant: Tenant, *, request_id: str, units: float) -> Any:
        taken.append(request_id)
        return await take(tenant, request_id=request_id, units=units)

    gateway.state.limiter.__dict__["take"] = counted
    await ask(gateway)
    assert len(taken) == 1


async def test_a_plain_answer_of_a_route_without_fallbacks_still_comes_in_one_message() -> None:
    gateway = gateway_of(route("stable"), stable="ready")
    await gateway.state.board.fresh(["stable"])
    await ask(gateway)
    assert gateway.dispatcher.calls[0][1].flush_s is None
    await gateway.state.close()
