"""What `/metrics` shows is what docs/metrics.md says, with labels that are bounded and of one gateway alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.gateway.metric_labels import OTHER, TenantLabels
from services.gateway.metrics import OTHER_REASON, REASONS, REFUSED, GatewayMetrics
from services.gateway.record import CLIENT_CLOSED, Record
from services.gateway.replica_metrics import COUNTED
from services.gateway.routes_ops import NotReady
from services.gateway.state import Tempo
from services.gateway.tenants import Tenant
from services.nn.text.params import text_counts
from shared.errors import Overloaded, ServiceError
from shared.events import Failed, Finished, RowEvent, TextDelta
from shared.prediction import Share, Waiting
from tests.exported_metrics import FLEET, REPORT, Exported, exported
from tests.unit.gateway.fakes import (
    ACCEPTED,
    MODEL,
    STOPPED,
    Clock,
    FakeDispatcher,
    chat,
    fail_with,
    make_gateway,
    play,
)

DOCUMENT = Path(__file__).parents[3] / "docs" / "metrics.md"
CHAT = "/v1/chat/completions"
UNITS = {"seconds": "seconds", "bytes": "bytes"}  # by what a name ends with, before `_total`


def documented() -> dict[str, tuple[Exported, str]]:
    """Each row of the tables, with its unit."""
    rows = re.findall(r"^\| `(castalia_\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \|", DOCUMENT.read_text(), re.MULTILINE)
    return {
        name: (Exported(name, type_, frozenset(re.findall(r"`(\w+)`", labels))), unit.strip())
        for name, type_, labels, unit in rows
    }


def value(metrics: GatewayMetrics, name: str, /, **labels: str) -> float:
    """The sum of the series that have these labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(metrics.render([]).decode())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def narrower(error: type[ServiceError]) -> Iterator[type[ServiceError]]:
    for each in error.__subclasses__():
        yield each
        yield from narrower(each)


def test_the_document_and_the_exported_metrics_are_equal() -> None:
    shown = {each.name: each for each in exported()}
    assert {name: row for name, (row, _) in documented().items()} == shown


def test_every_metric_has_a_unit_that_its_name_agrees_with() -> None:
    for name, (_, unit) in documented().items():
        assert unit, name
        stem = name.removesuffix("_total").rpartition("_")[2]
        assert unit == UNITS.get(stem, unit), name


def test_the_names_that_dashboards_outside_of_this_tree_may_rely_on_are_there() -> None:
    names = {each.name for each in exported()}
    assert names >= {
        "castalia_request_seconds",
        "castalia_time_to_first_chunk_seconds",
        "castalia_inter_chunk_seconds",
        "castalia_queue_seconds",
        "castalia_batch_occupancy",
        "castalia_steps_total",
        "castalia_units_total",
        "castalia_refusals_total",
        "castalia_aborts_total",
        "castalia_model_load_seconds",
        "castalia_cache_hit_ratio",
    }


def test_a_gateways_own_series_say_whose_they_are_and_those_of_replicas_do_not() -> None:
    for each in exported():
        is_own = not {"service", "replica"} & each.labels
        assert ("gateway" in each.labels) is is_own, each.name


def test_every_code_of_a_refusal_is_a_reason() -> None:
    refusals = {error for error in narrower(ServiceError) if error.status in REFUSED}
    assert NotReady in refusals
    assert {error.code for error in refusals} == REASONS


def test_tenants_beyond_the_bound_share_a_label() -> None:
    labels = TenantLabels(most=2)
    assert [labels.of(name) for name in ("a", "b", "c", "a", "d")] == ["a", "b", OTHER, "a", OTHER]


def test_what_tenants_beyond_the_bound_wait_for_is_one_sample() -> None:
    metrics = GatewayMetrics()
    for index in range(1000):
        metrics.tenants.of(f"t{index}")
    waiting = tuple(Waiting(Share(0, name, 1.0), 2.0) for name in ("x", "y", "t0"))
    entry = replace(REPORT.models[0], waiting=waiting)
    text = metrics.render([replace(REPORT, models=(entry,))]).decode()
    found = re.findall(r'castalia_tenant_waiting_cost\{.*tenant="(\w+)"\} (\S+)', text)
    assert sorted(found) == [(OTHER, "4.0"), ("t0", "2.0")]


def test_a_refusal_by_a_code_that_is_not_ours_has_no_label_of_its_own() -> None:
    metrics = GatewayMetrics()
    for code in ("model_loading", "out_of_tokens"):
        metrics.observe(Record("id", "POST", "/", 0.0, status=503, refusal=code), route="/", seconds=1.0)
    assert value(metrics, "castalia_refusals_total", reason="model_loading") == 1
    assert value(metrics, "castalia_refusals_total", reason=OTHER_REASON) == 1


def test_a_model_that_is_configured_no_more_keeps_its_family() -> None:
    metrics = GatewayMetrics()
    metrics.configure(FLEET)
    changed = FLEET.model_dump(mode="json")
    changed["services"][0]["models"][0]["id"] = "new"
    metrics.configure(type(FLEET).model_validate(changed))
    metrics.observe(Record("id", "POST", "/", 0.0, model="m", status=200), route="/", seconds=1.0)
    assert value(metrics, "castalia_requests_total", model="m", family="transformer") == 1


def test_what_a_family_counts_itself_is_shown_by_the_names_that_are_known_of_the_models_that_count_it() -> None:
    counting = replace(REPORT.models[0], counts={"guessed_tokens": 7.0, "secrets": 1.0})
    other = replace(REPORT.models[0], model="n", counts={})
    text = GatewayMetrics().render([replace(REPORT, models=(counting, other))]).decode()
    found = re.findall(r'^castalia_guessed_tokens_total\{.*model="(\w+)".*\} (\S+)', text, re.MULTILINE)
    assert found == [("m", "7.0")]
    assert "secrets" not in text
    assert "castalia_accepted_tokens_total{" not in text


def test_all_that_models_of_text_count_is_known() -> None:
    assert text_counts().snapshot().keys() == {name for name, _ in COUNTED}


def test_the_cache_hit_ratio_is_of_all_prompts_so_far() -> None:
    metrics = GatewayMetrics()
    for prompt, cached in ((10, 0), (30, 20)):
        record = Record("id", "POST", "/", 0.0, model="m", status=200, prompt_tokens=prompt, cached_tokens=cached)
        metrics.observe(record, route="/", seconds=1.0)
    assert value(metrics, "castalia_cache_hit_ratio", model="m") == 0.5
    assert value(metrics, "castalia_cached_tokens_total", model="m") == 20


@pytest.mark.parametrize("stream", [False, True])
async def test_cached_tokens_are_counted_whole_and_streamed(stream: bool) -> None:
    answer = [RowEvent(0, TextDelta("a", 10, 1, cached_tokens=8)), RowEvent(0, Finished("stop", 3))]
    gateway = make_gateway(FakeDispatcher(play(ACCEPTED, answer)))
    async with gateway.client() as client:
        await client.post(CHAT, json=chat(stream=stream))
    assert value(gateway.state.metrics, "castalia_cache_hit_ratio", model=MODEL, family="transformer") == 0.8


async def test_the_pauses_of_a_stream_are_observed() -> None:
    clock = Clock()

    async def script(_: object):  # type: ignore[no-untyped-def]
        yield ACCEPTED
        for total, seconds in enumerate((1.0, 0.25, 0.5), 1):
            clock.seconds += seconds
            yield [RowEvent(0, TextDelta("a", 5, total))]
        clock.seconds += 9.0
        yield STOPPED

    gateway = make_gateway(FakeDispatcher(script), tempo=Tempo(clock=clock))
    async with gateway.client() as client:
        await client.post(CHAT, json=chat(stream=True))
    metrics, where = gateway.state.metrics, {"model": MODEL, "family": "transformer"}
    assert value(metrics, "castalia_inter_chunk_seconds_count", **where) == 2
    assert value(metrics, "castalia_inter_chunk_seconds_sum", **where) == 0.75
    assert value(metrics, "castalia_time_to_first_chunk_seconds_sum", **where) == 1.0


async def test_refusals_have_the_reason_that_the_client_was_told() -> None:
    gateway = make_gateway(FakeDispatcher(fail_with(Failed.of(Overloaded("busy")))))
    async with gateway.client() as client:
        assert (await client.post(CHAT, json=chat())).status_code == 503
        assert (await client.post(CHAT, json=chat(model="none"))).status_code == 404
    metrics = gateway.state.metrics
    assert value(metrics, "castalia_refusals_total", reason="server_is_overloaded", model=MODEL, tenant="default") == 1
    assert value(metrics, "castalia_refusals_total") == 1, "a request that was wrong is not refused"


def test_a_client_that_went_away_is_an_abort_and_no_refusal() -> None:
    metrics = GatewayMetrics()
    gone = Record("id", "POST", "/", 0.0, model="m", status=CLIENT_CLOSED, tenant=Tenant("acme"))
    metrics.observe(gone, route="/", seconds=1.0)
    assert value(metrics, "castalia_aborts_total", model="m", tenant="acme") == 1
    assert value(metrics, "castalia_refusals_total") == 0
