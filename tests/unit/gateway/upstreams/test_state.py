"""What is kept of a remote server from call to call: its circuit, its key, its counts, its configuration."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import httpx
import pytest

from services.gateway.upstreams import UpstreamDispatcher
from services.gateway.upstreams.ongoing import SHARE, Ongoing
from services.gateway.upstreams.server import RemoteServer
from shared.errors import InvalidRequest, ModelNotFound, Overloaded, RequestTooLarge, UpstreamFailed
from shared.events import Accepted, RowEvent, TextDelta
from tests.unit.gateway.upstreams.remote import (
    DONE,
    MODEL,
    SECRET,
    Remote,
    answer,
    call,
    chat,
    chunk,
    completion,
    entry,
    error,
    events,
    service,
    streamed,
    text_of,
)


async def state_of(dispatcher: UpstreamDispatcher) -> str:
    (report,) = await dispatcher.reports("far")
    (model,) = report.models
    assert (report.service, model.model, model.revision) == ("far", MODEL, "remote")
    return model.state


async def running_rows(dispatcher: UpstreamDispatcher) -> int:
    (report,) = await dispatcher.reports("far")
    return report.models[0].running_rows


async def test_a_trial_that_its_client_gave_up_leaves_the_trial_to_the_next() -> None:
    asked = asyncio.Event()

    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

    remote = Remote([error(500)])
    dispatcher = remote.dispatcher(breaker={"failures": 1})
    with pytest.raises(UpstreamFailed):
        await events(dispatcher, call())
    remote.now += 10
    client = dispatcher._connections()
    working, client._transport = client._transport, Silent()
    trial = asyncio.create_task(events(dispatcher, call()))
    await asked.wait()
    assert await state_of(dispatcher) == "failed"
    trial.cancel()
    await asyncio.gather(trial, return_exceptions=True)
    client._transport = working
    remote.scripts = [answer("Hello")]
    assert text_of(await events(dispatcher, call())) == "Hello"


async def test_after_failures_in_a_row_refusals_come_at_once_and_the_board_hears_of_it() -> None:
    remote = Remote([error(500)])
    dispatcher = remote.dispatcher(breaker={"failures": 2, "pause_s": 10}, retries={"attempts": 2})
    for _ in range(2):
        with pytest.raises(UpstreamFailed):
            await events(dispatcher, call())
    assert len(remote.requests) == 3
    stream = dispatcher.stream("far", call())
    with pytest.raises(UpstreamFailed) as refused:
        await anext(stream)
    assert 0 < (refused.value.retry_after or 0) <= 10
    assert len(remote.requests) == 3
    assert await state_of(dispatcher) == "failed"
    remote.now += 10
    remote.scripts = [answer("Hello")]
    assert await state_of(dispatcher) == "ready", "else no route would ever lead there again"
    assert text_of(await events(dispatcher, call())) == "Hello"
    assert await state_of(dispatcher) == "ready"


def chosen(*reasons: str | None, **more: Any) -> httpx.Response:
    """A stream whose choices end, or do not, with a word each."""
    return streamed(*(chunk("a", row=row, reason=reason, **more) for row, reason in enumerate(reasons)), DONE)


LISTS = {"index": 0, "text": "a", "logprobs": {"tokens": ["a"]}, "finish_reason": "stop"}
LACKS = {
    "n": (chat(n=2), answer("one")),
    "n of a stream": (chat(n=2, stream=True), chosen("stop")),
    "logprobs": (completion(logprobs=1), httpx.Response(200, json={"choices": [LISTS]})),
}


@pytest.mark.parametrize("lack", LACKS)
async def test_an_option_that_the_server_lacks_opens_no_circuit_for_those_who_do_without(lack: str) -> None:
    body, given = LACKS[lack]
    remote = Remote([given])
    dispatcher = remote.dispatcher(breaker={"failures": 1})
    for _ in range(2):
        with pytest.raises(UpstreamFailed):
            await events(dispatcher, call(body))
    assert await state_of(dispatcher) == "ready"


@pytest.mark.parametrize("cut", [chosen("stop", None), chosen(None), streamed(DONE)], ids=["one", "all", "nothing"])
async def test_an_answer_that_breaks_off_does(cut: httpx.Response) -> None:
    dispatcher = Remote([cut]).dispatcher(breaker={"failures": 1})
    with pytest.raises(UpstreamFailed):
        await events(dispatcher, call(chat(n=2, stream=True)))
    assert await state_of(dispatcher) == "failed"


async def test_an_answer_longer_than_we_read_opens_no_circuit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.upstreams.reading.MAX_ANSWER", 10)
    dispatcher = Remote([answer()]).dispatcher(breaker={"failures": 1})
    with pytest.raises(UpstreamFailed):
        await events(dispatcher, call())
    assert await state_of(dispatcher) == "ready"


async def test_a_call_is_accepted_before_the_server_begins_to_answer() -> None:
    """So that routes do not lead around a server that is slow to begin: a retry waits here for ever."""
    remote = Remote([error(500)])
    gate = asyncio.Event()

    async def wait(_: float) -> None:
        await gate.wait()

    remote.sleep = wait  # type: ignore[method-assign]
    stream = remote.dispatcher().stream("far", call(chat(n=2)))
    assert await anext(stream) == [RowEvent(0, Accepted(2))]
    assert remote.requests == []
    await stream.aclose()


@pytest.mark.parametrize("status", [400, 403, 404, 413, 422, 429])
async def test_refusals_of_requests_open_no_circuit(status: int) -> None:
    remote = Remote([error(status)])
    dispatcher = remote.dispatcher(breaker={"failures": 1}, retries={"attempts": 1})
    for _ in range(3):
        with pytest.raises((InvalidRequest, RequestTooLarge, Overloaded)):
            await events(dispatcher, call())
    assert len(remote.requests) == 3


async def test_a_whole_answer_clears_the_record_though_nobody_asks_for_more() -> None:
    remote = Remote([error(500)])
    dispatcher = remote.dispatcher(breaker={"failures": 2}, retries={"attempts": 1})
    for _ in range(3):
        remote.scripts = [error(500)]
        with pytest.raises(UpstreamFailed):
            await events(dispatcher, call())
        remote.scripts = [answer()]
        stream = dispatcher.stream("far", call())
        async for batch in stream:
            if any(isinstance(event, TextDelta) and not event.text for _, event in batch):
                break
        await stream.aclose()
    assert await state_of(dispatcher) == "ready"


async def test_beyond_its_bound_requests_are_refused_and_none_is_forgotten() -> None:
    gate, asleep = asyncio.Event(), asyncio.Event()
    remote = Remote([error(500), answer(), answer()])

    async def wait(_: float) -> None:
        asleep.set()
        await gate.wait()

    remote.sleep = wait  # type: ignore[method-assign]
    dispatcher = remote.dispatcher(max_ongoing=1)
    first = asyncio.create_task(events(dispatcher, call()))
    await asleep.wait()
    with pytest.raises(Overloaded, match="as many requests"):
        await events(dispatcher, call())
    assert await running_rows(dispatcher) == 1
    gate.set()
    await first
    assert await running_rows(dispatcher) == 0
    await events(dispatcher, call())


def places(ongoing: Ongoing, tenant: str, *, most: int) -> int:
    """How many the tenant gets, asking until it is refused."""
    return next(n for n in itertools.count() if not ongoing.enter(tenant, most=most))


@pytest.mark.parametrize("most", [2, 9, 256])
def test_a_tenant_that_takes_all_it_can_get_leaves_places_for_others(most: int) -> None:
    ongoing = Ongoing()
    greedy = places(ongoing, "greedy", most=most)
    assert most * 4 // 9 <= greedy < most
    assert ongoing.enter("other", most=most)
    assert not ongoing.enter("greedy", most=most)


def test_who_comes_later_gets_as_many_places_as_requests_end() -> None:
    ongoing = Ongoing()
    early, late = places(ongoing, "early", most=256), places(ongoing, "late", most=256)
    for _ in range(256):
        ongoing.leave("early")
        late += places(ongoing, "late", most=256)
        early += places(ongoing, "early", most=256) - 1
    assert abs(early - late) <= SHARE


async def test_a_server_with_all_the_streams_it_may_have_of_one_tenant_takes_anothers_request() -> None:
    dispatcher = Remote([answer("Hello")]).dispatcher(max_ongoing=9)
    streams = [dispatcher.stream("far", call(tenant="greedy")) for _ in range(9)]
    for stream in streams[:-1]:
        await anext(stream)
    with pytest.raises(Overloaded):
        await anext(streams[-1])
    assert text_of(await events(dispatcher, call(tenant="other"))) == "Hello"
    for stream in streams:
        await stream.aclose()
    assert await running_rows(dispatcher) == 0


@pytest.mark.parametrize("environ", [{}, {"FAR_KEY": "  "}, {"FAR_KEY": "a\nb"}, {"FAR_KEY": "schlüssel"}])
async def test_without_its_key_a_service_has_failed_and_nothing_is_sent(environ: dict[str, str]) -> None:
    remote = Remote([answer()])
    dispatcher = remote.dispatcher(environ=environ)
    assert await state_of(dispatcher) == "failed"
    with pytest.raises(UpstreamFailed):
        await events(dispatcher, call())
    assert remote.requests == []
    assert '"variable": "FAR_KEY"' in remote.log.getvalue()
    assert "schl" not in remote.log.getvalue()


async def test_no_key_is_in_a_log_a_report_or_a_representation() -> None:
    remote = Remote([error(500, SECRET), error(401, SECRET)])
    dispatcher = remote.dispatcher()
    with pytest.raises(UpstreamFailed) as failed:
        await events(dispatcher, call())
    server = dispatcher._servers["far"]
    assert isinstance(server, RemoteServer)
    shown = [repr(dispatcher), repr(server), repr(server._headers), repr(server._job(call())), repr(failed.value)]
    shown += [repr(await dispatcher.reports("far")), remote.log.getvalue()]
    assert not [text for text in shown if SECRET in text]


async def test_a_ping_asks_nothing_of_the_server() -> None:
    remote = Remote([answer()])
    await remote.dispatcher().ping("far")
    assert remote.requests == []


async def test_a_server_that_cannot_be_reached_at_all_fails_alone() -> None:
    remote = Remote([answer("Hello")])
    dispatcher = remote.dispatcher()
    broken = service(name="broken").model_copy(update={"url": "http://1.2.3.999/v1"})
    dispatcher.configure([broken, service()])
    (report,) = await dispatcher.reports("broken")
    assert report.models[0].state == "failed"
    with pytest.raises(UpstreamFailed):
        await anext(dispatcher.stream("broken", call()))
    assert text_of(await events(dispatcher, call())) == "Hello"
    assert "upstream_unusable" in remote.log.getvalue()


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({}, "failed"),
        ({"max_ongoing": 3}, "failed"),
        ({"breaker": {"failures": 2}}, "ready"),
        ({"url": "https://other.example/v1"}, "ready"),
        ({"secret_env": None}, "ready"),
    ],
    ids=str,
)
async def test_a_server_keeps_its_circuit_until_its_address_key_or_circuit_change(
    change: dict[str, Any], state: str
) -> None:
    dispatcher = Remote([error(500)]).dispatcher(breaker={"failures": 1})
    with pytest.raises(UpstreamFailed):
        await events(dispatcher, call())
    dispatcher.configure([service(**{"breaker": {"failures": 1}, **change})])
    assert await state_of(dispatcher) == state


async def test_changed_options_forget_neither_open_requests_nor_counts() -> None:
    remote = Remote([answer()])
    dispatcher = remote.dispatcher()
    await events(dispatcher, call())
    running = dispatcher.stream("far", call(tenant="a"))
    await anext(running)
    dispatcher.configure([service(max_ongoing=1, breaker={"failures": 2})])
    assert await running_rows(dispatcher) == 1
    with pytest.raises(Overloaded):
        await events(dispatcher, call(tenant="b"))
    await running.aclose()
    assert await running_rows(dispatcher) == 0
    await events(dispatcher, call(tenant="b"))
    (report,) = await dispatcher.reports("far")
    assert report.models[0].units == 20.0


async def test_what_the_configuration_has_no_more_is_not_found() -> None:
    remote = Remote([answer()])
    dispatcher = remote.dispatcher()
    dispatcher.configure([service(models=[{"id": "other", "remote_id": "x"}])])
    with pytest.raises(ModelNotFound):
        await events(dispatcher, call())
    dispatcher.configure([])
    with pytest.raises(ModelNotFound):
        await events(dispatcher, call())
    assert await dispatcher.reports("far") == ()


async def test_the_report_counts_what_was_done_there() -> None:
    remote = Remote([answer()])
    model = {**entry()["models"][0], "context_length": 4096}
    dispatcher = remote.dispatcher(models=[model])
    for _ in range(2):
        await events(dispatcher, call())
    (report,) = await dispatcher.reports("far")
    assert (report.models[0].units, report.models[0].finished) == (20.0, {"stop": 2})
    assert report.models[0].limits == {"context_length": 4096.0}
