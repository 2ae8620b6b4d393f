"""A request's trace, from the client's `traceparent` through the gateway to the replica, and out to a collector."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.gateway.record import CLIENT_CLOSED
from shared.config.models import FleetConfig
from shared.config.settings import Settings
from shared.errors import Overloaded
from shared.events import Failed, Finished, RowEvent, TextDelta
from shared.otlp import EXPORTER
from shared.tracing import NO_TRACER, TracingUnavailable, make_tracer
from tests.traces import Traced, collector, id_of, parent_of
from tests.unit.gateway.fakes import ACCEPTED, FLEET, MODEL, FakeDispatcher, chat, fail_with, make_gateway, play
from tests.unit.gateway.upstreams.remote import Remote, answer, call
from tests.unit.replica.driver import running
from tests.unit.replica.fakes import FakeTask, loaded

CHAT = "/v1/chat/completions"
DOCUMENT = Path(__file__).parents[3] / "docs" / "tracing.md"
TRACE, CLIENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{CLIENT}-01", f"00-{TRACE}-{CLIENT}-00"
SAMPLED_FLAG = 1  # of the last two digits
SECRET = "the owl flies at dusk"


def attributes(span: Any) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_one_trace_leads_from_the_client_through_the_gateway_to_the_engines_steps() -> None:
    traced = Traced()
    model = loaded()
    model.tasks["detokenize"] = FakeTask()  # type: ignore[index]
    fleet = {"services": [{**FLEET.services[0].model_dump(mode="json"), "models": [{"id": "a", "source": "file://a"}]}]}
    async with running(model, tracer=traced.tracer) as host:
        gateway = make_gateway(
            FakeDispatcher(host.stream), fleet=FleetConfig.model_validate(fleet), tracer=traced.tracer
        )
        async with gateway.client() as client:
            body = {"model": "a", "tokens": [3]}
            response = await client.post("/detokenize", json=body, headers={"traceparent": SAMPLED})
    assert response.status_code == 200
    spans = {span.name: span for span in traced.spans if span.kind.name != "CLIENT"}
    (sent,) = [span for span in traced.spans if span.kind.name == "CLIENT"]
    request, replica = spans["POST /detokenize"], spans["detokenize a"]
    assert {f"{span.context.trace_id:032x}" for span in traced.spans} == {TRACE}
    assert [parent_of(each) for each in (request, sent, replica)] == [CLIENT, id_of(request), id_of(sent)]
    for part in ("prepare", "queue", "prefill", "steps", "encode"):
        assert parent_of(spans[part]) == id_of(replica)
    assert attributes(sent) == {
        "gen_ai.operation.name": "detokenize",
        "gen_ai.provider.name": "castalia",
        "gen_ai.request.model": "a",
        "castalia.service": "chat",
    }
    documented = set(re.findall(r"`([a-z_.]+)`", DOCUMENT.read_text()))
    assert {name for span in traced.spans for name in attributes(span)} <= documented
    assert {"prepare", "queue", "prefill", "steps", "encode"} <= documented


@pytest.mark.parametrize("stream", [False, True])
async def test_a_requests_span_says_what_was_asked_and_used_and_nothing_of_what_was_said(stream: bool) -> None:
    traced = Traced()
    said_by_it = [RowEvent(0, TextDelta(SECRET, 10, 3, cached_tokens=8)), RowEvent(0, Finished("stop", 13))]
    gateway = make_gateway(FakeDispatcher(play(ACCEPTED, said_by_it)), tracer=traced.tracer)
    async with gateway.client(headers={"authorization": f"Bearer {SECRET}"}) as client:
        messages = [{"role": "user", "content": SECRET}]
        response = await client.post(CHAT, json=chat(stream=stream, messages=messages))
    span = traced.named(f"POST {CHAT}")
    said = attributes(span)
    assert said.keys() <= set(re.findall(r"`([a-z_.]+)`", DOCUMENT.read_text()))
    assert said.pop("gen_ai.response.time_to_first_chunk", 0.0) >= 0
    assert said == {
        "http.request.method": "POST",
        "http.route": CHAT,
        "http.response.status_code": 200,
        "castalia.request_id": response.headers["x-request-id"],
        "castalia.tenant": "default",
        "castalia.units": 13.0,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "castalia",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.stream": stream,
        "gen_ai.response.model": MODEL,
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 8,
    }
    assert SECRET not in "".join(each.to_json() for each in traced.spans)
    assert span.kind.name == "SERVER"


@pytest.mark.parametrize(
    ("header", "ratio", "count"),
    [(SAMPLED, 0.0, 2), (UNSAMPLED, 1.0, 0), (None, 0.0, 0), (None, 1.0, 2), ("garbage", 1.0, 2), ("garbage", 0.0, 0)],
)
async def test_the_clients_decision_holds_and_the_ratio_where_there_is_none(
    header: str | None, ratio: float, count: int
) -> None:
    traced = Traced(ratio)
    dispatcher = FakeDispatcher()
    gateway = make_gateway(dispatcher, tracer=traced.tracer)
    async with gateway.client() as client:
        await client.post(CHAT, json=chat(), headers={} if header is None else {"traceparent": header})
    assert len(traced.spans) == count
    ((_, call),) = dispatcher.calls
    assert call.traceparent is not None, "a replica must hear that its call is not sampled, too"
    assert int(call.traceparent[-2:], 16) & SAMPLED_FLAG == bool(count)
    if header in {SAMPLED, UNSAMPLED}:
        assert call.traceparent.split("-")[1] == TRACE


async def test_probes_and_scrapes_are_not_traced() -> None:
    traced = Traced()
    gateway = make_gateway(tracer=traced.tracer)
    async with gateway.client() as client:
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await client.get(path)).status_code == 200
    assert traced.spans == []


async def test_a_refusal_and_a_strangers_path_are_told_without_their_words() -> None:
    traced = Traced()
    gateway = make_gateway(FakeDispatcher(fail_with(Failed.of(Overloaded(SECRET)))), tracer=traced.tracer)
    async with gateway.client() as client:
        await client.post(CHAT, json=chat())
        await client.post(CHAT, json=chat(model="owl"))
        await client.get("/owl")
    sent, refused, unknown, nowhere = traced.spans
    assert attributes(sent)["error.type"] == attributes(refused)["error.type"] == "server_is_overloaded"
    assert not refused.status.is_ok
    assert (attributes(unknown)["http.response.status_code"], unknown.status.is_unset) == (404, True)
    assert nowhere.name == "GET"
    everything = "".join(each.to_json() for each in traced.spans)
    assert SECRET not in everything
    assert "owl" not in everything


async def test_a_client_that_goes_away_leaves_a_failed_span() -> None:
    traced = Traced()
    dispatcher = FakeDispatcher(play(ACCEPTED, asyncio.Event()))
    gateway = make_gateway(dispatcher, tracer=traced.tracer)
    async with gateway.client() as client:
        request = asyncio.create_task(client.post(CHAT, json=chat(stream=True)))
        await dispatcher.opened.wait()
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
    said = attributes(traced.named(f"POST {CHAT}"))
    assert (said["http.response.status_code"], said["error.type"]) == (CLIENT_CLOSED, "client_closed")


async def test_every_try_is_a_span_of_its_own() -> None:
    traced = Traced()
    failing = fail_with(Failed.of(Overloaded("busy")))
    route = {"name": "front", "targets": [{"model": MODEL}], "fallbacks": ["org/other"]}
    fleet = FleetConfig.model_validate({**FLEET.model_dump(mode="json", exclude_unset=True), "routes": [route]})
    gateway = make_gateway(FakeDispatcher(scripts=[failing]), fleet=fleet, tracer=traced.tracer)
    async with gateway.client() as client:
        assert (await client.post(CHAT, json=chat(model="front"))).status_code == 200
    first, second = (span for span in traced.spans if span.kind.name == "CLIENT")
    assert (first.name, first.status.is_ok, second.name) == (f"chat {MODEL}", False, "chat org/other")
    said = attributes(traced.named(f"POST {CHAT}"))
    assert (said["gen_ai.request.model"], said["gen_ai.response.model"]) == ("front", "org/other")


async def test_a_copy_for_a_mirror_has_a_trace_of_its_own() -> None:
    traced = Traced()
    route = {"name": "front", "targets": [{"model": MODEL}], "mirror": {"model": "org/other", "share": 1.0}}
    fleet = FleetConfig.model_validate({**FLEET.model_dump(mode="json", exclude_unset=True), "routes": [route]})
    gateway = make_gateway(fleet=fleet, tracer=traced.tracer)
    async with gateway.client() as client:
        await client.post(CHAT, json=chat(model="front"), headers={"traceparent": SAMPLED})
    await asyncio.gather(*gateway.state.mirror._copies)
    assert f"{traced.named('chat org/other').context.trace_id:032x}" != TRACE


async def test_a_remote_server_gets_the_traceparent_of_the_span_that_asks_it() -> None:
    remote = Remote([answer()])
    dispatcher = remote.dispatcher()
    for traceparent in (SAMPLED, None):
        async for _ in dispatcher.stream("far", replace(call(), traceparent=traceparent)):
            pass
    assert [request.headers.get("traceparent") for request in remote.requests] == [SAMPLED, None]
    await dispatcher.close()


async def test_where_nothing_is_traced_calls_carry_nothing() -> None:
    dispatcher = FakeDispatcher()
    gateway = make_gateway(dispatcher)
    async with gateway.client() as client:
        await client.post(CHAT, json=chat(), headers={"traceparent": SAMPLED})
    assert gateway.state.tracer is NO_TRACER
    assert [call.traceparent for _, call in dispatcher.calls] == [None]


def test_where_nothing_is_traced_nothing_of_it_is_imported() -> None:
    program = (
        "import sys; import services.gateway.web, services.model_service, shared.tracing as t\n"
        "from shared.config.settings import Settings\n"
        "t.make_tracer(Settings(), service='s', instance='i').close()\n"
        "assert not {'opentelemetry.sdk.trace', 'opentelemetry.exporter', 'shared.otlp'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_what_is_no_address_and_no_share_is_refused() -> None:
    for wrong in ({"otlp_endpoint": "collector:4318"}, {"trace_ratio": 1.5}):
        with pytest.raises(ValidationError):
            Settings.model_validate(wrong)


def test_traces_without_their_extra_are_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, EXPORTER, None)
    with pytest.raises(TracingUnavailable, match=r"castalia\[tracing\]"):
        make_tracer(Settings(otlp_endpoint="http://127.0.0.1:1"), service="s", instance="i")


async def test_a_collector_gets_the_spans_of_a_gateway_that_closes() -> None:
    pytest.importorskip(EXPORTER, reason="the extra `tracing` is not installed")
    with collector() as found:
        gateway = make_gateway(otlp_endpoint=found.url, trace_ratio=1.0)
        async with gateway.client() as client:
            assert (await client.post(CHAT, json=chat())).status_code == 200
        await gateway.state.close()
    assert set(found.collector.paths) == {"/v1/traces"}
    assert sorted(found.names()) == [("castalia-gateway", f"POST {CHAT}"), ("castalia-gateway", f"chat {MODEL}")]
