"""Health, readiness, metrics, the model list, and the headers that every response has."""

from __future__ import annotations

import asyncio
import random
import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from services.gateway.dispatcher import ReplicaLost
from services.gateway.problems import error_headers
from services.gateway.routing import RoutingTable
from services.gateway.state import Tempo
from shared.config.models import FleetConfig
from shared.config.settings import Settings
from shared.errors import InvalidRequest, ModelLoading, Overloaded
from shared.events import Failed
from shared.schemas.common import ModelCard
from tests.unit.gateway.fakes import (
    FLEET,
    MODEL,
    OTHER,
    Clock,
    FakeDispatcher,
    Gateway,
    chat,
    fail_with,
    make_gateway,
    play,
    report,
)

CHAT = "/v1/chat/completions"
FAMILY = "transformer"
SECRET = "the owl flies at dusk"


async def test_healthz_answers_without_asking_anyone(gateway: Gateway) -> None:
    gateway.dispatcher.dead = {"chat", "cold"}
    async with gateway.client() as client:
        response = await client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_readyz_asks_only_services_that_keep_a_replica(gateway: Gateway) -> None:
    gateway.dispatcher.dead = {"cold"}
    async with gateway.client() as client:
        response = await client.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"status": "ready", "services": ["chat"], "silent": []})


async def test_readyz_names_the_service_that_does_not_answer() -> None:
    gateway = make_gateway(FakeDispatcher(dead={"chat"}), tempo=Tempo(ping_timeout_s=0.001))
    async with gateway.client() as client:
        response = await client.get("/readyz")
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["type"]) == (503, "not_ready", "service_unavailable_error")
    assert "chat" in error["message"]
    assert response.headers["retry-after"]


KEPT = FleetConfig.model_validate(
    {
        "services": [
            {"name": name, "family": "transformer", "models": [{"id": f"m-{name}", "source": "builtin://tiny"}]}
            for name in ("one", "other")
        ]
    }
)


async def test_a_gateway_that_was_ready_stays_so_while_any_service_answers() -> None:
    dispatcher = FakeDispatcher()
    gateway = make_gateway(dispatcher, tempo=Tempo(ping_timeout_s=0.001), fleet=KEPT)
    found: list[tuple[int, list[str] | None]] = []
    async with gateway.client() as client:
        for dead in ({"one"}, set[str](), {"one"}, {"one", "other"}, {"other"}):
            dispatcher.dead = dead
            response = await client.get("/readyz")
            found.append((response.status_code, response.json().get("silent")))
    assert found == [(503, None), (200, []), (200, ["one"]), (503, None), (200, ["other"])]


async def test_a_new_gateway_waits_for_a_service_that_never_answers_for_ten_minutes_at_most() -> None:
    clock = Clock()
    tempo = Tempo(ping_timeout_s=0.001, clock=clock)
    gateway = make_gateway(FakeDispatcher(dead={"one"}), tempo=tempo, fleet=KEPT)
    async with gateway.client() as client:
        clock.seconds += 590
        assert (await client.get("/readyz")).status_code == 503
        clock.seconds += 20
        assert (await client.get("/readyz")).json()["services"] == ["other"]


async def test_a_gateway_without_configuration_is_not_ready() -> None:
    async with make_gateway(fleet=None).client() as client:
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/v1/models")).json()["data"] == []


async def test_models_show_configuration_and_reports(gateway: Gateway) -> None:
    gateway.dispatcher.known["chat"] = [report(state="loading", replica="a"), report(state="ready", replica="b")]
    async with gateway.client() as client:
        listed = (await client.get("/v1/models")).json()
        other = ModelCard.model_validate((await client.get(f"/v1/models/{OTHER}")).json())
    assert listed["object"] == "list"
    card = ModelCard.model_validate(listed["data"][0])
    assert (card.id, card.family, card.state, card.revision) == (MODEL, "transformer", "ready", "abc")
    assert card.limits == {"context_length": 64.0}
    assert card.tasks == ["chat", "completion", "tokenize", "detokenize"]
    assert (other.id, other.state, other.license, other.revision) == (OTHER, "cold", "MIT", "unknown")


async def test_an_adapter_is_a_model_that_names_its_base() -> None:
    entries = [
        {"id": MODEL, "source": "builtin://tiny"},
        {"id": "bot", "base": MODEL, "adapter": "file:///lora", "conversation": "none"},
    ]
    fleet = FleetConfig.model_validate({"services": [{"name": "chat", "family": "transformer", "models": entries}]})
    async with make_gateway(fleet=fleet).client() as client:
        cards = [ModelCard.model_validate(card) for card in (await client.get("/v1/models")).json()["data"]]
    assert [(card.id, card.base) for card in cards] == [(MODEL, None), ("bot", MODEL)]
    assert cards[1].tasks == ["completion", "tokenize", "detokenize"]


async def test_limits_outlive_the_replica_that_reported_them(gateway: Gateway) -> None:
    gateway.dispatcher.known["chat"] = [report()]
    await gateway.state.board.fresh(["chat"])
    gateway.dispatcher.known["chat"] = []
    await gateway.state.board.fresh(["chat"])
    async with gateway.client() as client:
        card = (await client.get(f"/v1/models/{MODEL}")).json()
    assert (card["state"], card["revision"], card["limits"]) == ("cold", "abc", {"context_length": 64.0})


async def test_an_unknown_model_is_404_in_the_list_too(gateway: Gateway) -> None:
    async with gateway.client() as client:
        for model_id in ("gpt-5", "org/none", ""):
            response = await client.get(f"/v1/models/{model_id}")
            assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_report_that_is_too_old_says_nothing() -> None:
    clock = Clock()
    gateway = make_gateway(FakeDispatcher(known={"chat": [report()]}), tempo=Tempo(clock=clock))
    board = gateway.state.board
    assert not board.is_ready("chat", MODEL)  # nothing known: asked for in the background
    await board.fresh(["chat"])
    assert board.is_ready("chat", MODEL)
    asked = len(gateway.dispatcher.asked)
    clock.seconds += 0.4
    assert board.is_ready("chat", MODEL)
    assert len(gateway.dispatcher.asked) == asked
    gateway.dispatcher.known["chat"] = ReplicaLost("gone")
    clock.seconds += 5
    assert not board.is_ready("chat", MODEL)
    await board.close()


async def test_a_report_ages_from_when_it_was_asked_for_not_from_when_it_came() -> None:
    clock = Clock()
    dispatcher = FakeDispatcher(known={"chat": [report()]})
    gateway = make_gateway(dispatcher, tempo=Tempo(clock=clock))
    answer = dispatcher.reports

    async def slow(service: str) -> Any:
        clock.seconds += 0.9
        return await answer(service)

    dispatcher.__dict__["reports"] = slow
    board = gateway.state.board
    await board.fresh(["chat"])
    clock.seconds += 0.09
    assert board.is_ready("chat", MODEL)
    clock.seconds += 0.02
    assert not board.is_ready("chat", MODEL)
    await board.close()


@pytest.mark.parametrize("seconds", [0, 1.5])
def test_no_setting_lets_an_old_report_count(seconds: float) -> None:
    with pytest.raises(ValidationError, match="report_s"):
        Settings(report_s=seconds)


async def test_a_service_that_keeps_silent_holds_nobody_up_twice() -> None:
    clock = Clock()
    dispatcher = FakeDispatcher()
    hung = asyncio.Event()

    async def silent(service: str) -> Any:
        dispatcher.asked.append(service)
        clock.seconds += 1.1
        if len(dispatcher.asked) > 1:
            await hung.wait()
        raise ReplicaLost("silent")

    dispatcher.__dict__["reports"] = silent
    board = make_gateway(dispatcher, tempo=Tempo(clock=clock)).state.board
    await board.know(["chat"], wait_s=60)
    await board.know(["chat"], wait_s=60)
    assert dispatcher.asked == ["chat"], "silence is an answer for as long as others are"
    clock.seconds += 2
    assert not board.is_ready("chat", MODEL)
    await asyncio.sleep(0)
    async with asyncio.timeout(0):  # it is being asked again, and would not answer before long
        await board.know(["chat"], wait_s=60)
    assert dispatcher.asked == ["chat", "chat"]
    await board.close()


async def test_services_that_do_not_report_are_cold_not_an_error(gateway: Gateway) -> None:
    gateway.dispatcher.known = {"chat": ReplicaLost("x"), "cold": Overloaded("y")}
    async with gateway.client() as client:
        assert (await client.get("/metrics")).status_code == 200
        assert {card["state"] for card in (await client.get("/v1/models")).json()["data"]} == {"cold"}
    assert len(gateway.log_lines("no_reports")) == 2


async def test_metrics_ask_for_fresh_reports_and_are_well_formed(gateway: Gateway) -> None:
    gateway.dispatcher.known["chat"] = [report()]
    async with gateway.client() as client:
        await client.post(CHAT, json=chat())
        await client.post(CHAT, json=chat(model="gpt-5"))
        before = gateway.dispatcher.asked.count("chat")
        response = await client.get("/metrics")
        assert gateway.dispatcher.asked.count("chat") > before
    assert response.headers["content-type"].startswith("text/plain; version=")
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }
    where = (("family", FAMILY), ("model", MODEL), ("replica", "r1"), ("service", "chat"))
    assert samples["castalia_running_rows", *where] == 2
    assert samples["castalia_model_ready", *where] == 1
    assert samples["castalia_steps_total", *where] == 10
    assert samples["castalia_finished_rows_total", *sorted([*where, ("reason", "abort")])] == 1
    assert samples["castalia_step_seconds_bucket", *sorted([*where, ("le", "1.0")])] == 5
    assert samples["castalia_step_seconds_count", *where] == 6
    assert samples["castalia_step_seconds_sum", *where] == 4.5
    own = {"gateway": "", "family": FAMILY, "model": MODEL, "tenant": "default"}
    asked = {**own, "route": CHAT, "status": "200"}
    assert samples["castalia_requests_total", *sorted(asked.items())] == 1
    unknown = {**own, "family": "", "model": "", "route": CHAT, "status": "404"}
    assert samples["castalia_requests_total", *sorted(unknown.items())] == 1
    tokens = {**own, "kind": "completion"}
    assert samples["castalia_tokens_total", *sorted(tokens.items())] == 4
    assert samples["castalia_requests_in_flight", ("gateway", "")] == 1  # the scrape itself


async def test_a_scraper_that_leaves_does_not_take_the_reports_from_the_next() -> None:
    gateway = make_gateway(FakeDispatcher(known={"chat": [report()]}))
    first = asyncio.create_task(gateway.state.board.fresh(["chat"]))
    second = asyncio.create_task(gateway.state.board.fresh(["chat"]))
    await asyncio.sleep(0)
    first.cancel()
    assert [found.service for found in await second] == ["chat"]


async def test_a_clients_path_and_model_never_become_labels(gateway: Gateway) -> None:
    async with gateway.client() as client:
        await client.get("/wp-admin")
        await client.get("/v1/models/evil-label")
        await client.post(CHAT, json=chat(model="evil-label"))
        text = (await client.get("/metrics")).text
    assert "wp-admin" not in text
    assert "evil-label" not in text


async def test_every_response_has_the_headers(gateway: Gateway) -> None:
    async with gateway.client(headers={"x-request-id": "mine"}) as client:
        for response in (
            await client.post(CHAT, json=chat()),
            await client.post(CHAT, json=chat(stream=True)),
            await client.post(CHAT, json={}),
            await client.get("/nowhere"),
            await client.get("/healthz"),
        ):
            assert re.fullmatch("req_[0-9a-f]{32}", response.headers["x-request-id"])
            assert response.headers["openai-version"]
            assert response.headers["openai-processing-ms"].isdigit()


async def test_an_unexpected_failure_is_a_500_with_its_cause_in_the_log_alone(gateway: Gateway) -> None:
    gateway.dispatcher.default = play(ValueError(f"cannot read {SECRET!r}"))
    async with gateway.client() as client:
        response = await client.post(CHAT, json=chat())
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert "Traceback" not in response.text
    assert SECRET not in response.text
    (line,) = gateway.log_lines("request_failed")
    assert line["request_id"] == response.headers["x-request-id"]
    assert line["cause"].startswith("ValueError at ")
    assert __file__.replace("test_operations", "fakes") in line["cause"]


@pytest.mark.parametrize(("asked", "least", "most"), [(None, 1, 2), (4.0, 4, 6), (100.0, 20, 30), (0.1, 1, 2)])
def test_retry_after_has_jitter_and_bounds(asked: float | None, least: int, most: int) -> None:
    failure = Failed.of(Overloaded("busy", retry_after=asked))
    rng = random.Random(0)
    seconds = {int(error_headers(failure, retries=0, rng=rng)["retry-after"]) for _ in range(100)}
    assert min(seconds) == least
    assert max(seconds) == most


async def test_clients_that_retried_are_told_to_stop_under_overload() -> None:
    gateway = make_gateway(FakeDispatcher(fail_with(Failed.of(ModelLoading("loading", retry_after=3.0)))))
    async with gateway.client() as client:
        first = await client.post(CHAT, json=chat(), headers={"x-stainless-retry-count": "0"})
        second = await client.post(CHAT, json=chat(), headers={"x-stainless-retry-count": "1"})
        strange = await client.post(CHAT, json=chat(), headers={"x-stainless-retry-count": b"\xd9\xa3"})
    assert first.status_code == second.status_code == 503
    assert first.json()["error"]["code"] == "model_loading"
    assert "x-should-retry" not in first.headers
    assert second.headers["x-should-retry"] == "false"
    assert "x-should-retry" not in strange.headers


def test_only_overload_has_retry_headers() -> None:
    assert error_headers(Failed.of(InvalidRequest("no")), retries=3, rng=random.Random(0)) == {}


def test_a_model_keeps_its_creation_time_over_reconfigurations() -> None:
    first = RoutingTable.of(FLEET, now=100, before=RoutingTable())
    again = RoutingTable.of(FLEET, now=200, before=first)
    assert again == first
    extra = FLEET.model_dump(mode="json")
    extra["services"][0]["models"].append({"id": "new", "source": "builtin://new"})
    grown = RoutingTable.of(FleetConfig.model_validate(extra), now=300, before=again)
    assert (grown.routes[MODEL].created, grown.routes["new"].created) == (100, 300)
