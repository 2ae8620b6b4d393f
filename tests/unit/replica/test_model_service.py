"""One service on one replica: the life of a call, its failures, cancellation, reconfiguration and the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import CapturingLogger

from services.engine.errors import EngineUnhealthy
from services.families import LoadedModel
from services.model_service import ModelService, ServiceUnusable
from shared.calls import Call, Priority
from shared.events import Accepted, Event, Failed, Finished, RowEvent, TextDelta
from shared.reports import ModelReport
from shared.schemas.text import DetokenizeRequest
from tests.contract.fake import FakeSampler
from tests.unit.replica.fakes import Loader, loaded, service, until

ENDLESS = 10**9
Logged = Callable[[], list[dict[str, Any]]]


def call(*steps: int, model: str = "a", task: str = "generate", **changes: Any) -> Call:
    body = DetokenizeRequest(model=model, tokens=list(steps))
    return Call(request_id="req_1", model=model, task=task, body=body, **changes)


@asynccontextmanager
async def running(*models: LoadedModel | Exception, **changes: Any) -> AsyncIterator[ModelService]:
    """A started service of models a, b, c ..."""
    ids = "abcdef"[: len(models)]
    host = ModelService(
        service(*ids, **changes),
        replica="r",
        hold_s=10,
        resolve=lambda source: Path("/none"),
        loader=Loader(dict(zip(ids, models, strict=True))),
    )
    await host.start()
    try:
        yield host
    finally:
        await host.stop()


async def events(host: ModelService, what: Call) -> list[Event]:
    return [event async for batch in host.stream(what) for _, event in batch]


async def failure(host: ModelService, what: Call) -> Failed:
    (event,) = await events(host, what)
    assert isinstance(event, Failed)
    return event


def report_of(host: ModelService, model: str = "a") -> ModelReport:
    return next(entry for entry in host.report().models if entry.model == model)


@pytest.fixture
def logged() -> Iterator[Logged]:
    """What was logged through structlog so far, as JSON holds it."""
    captured = CapturingLogger()
    structlog.configure(processors=[structlog.processors.JSONRenderer()], logger_factory=lambda *_: captured)
    yield lambda: [json.loads(entry.args[0]) for entry in captured.calls]
    structlog.reset_defaults()


async def test_a_call_runs_to_the_end_of_every_row() -> None:
    async with running(loaded()) as host:
        found = await events(host, call(2, 3))
    assert found[0] == Accepted(2)
    assert [event for event in found if isinstance(event, Finished)] == [Finished("length", 2), Finished("length", 3)]
    texts = [event.text for event in found if isinstance(event, TextDelta)]
    assert [len(text.split()) for text in texts] == [2, 3]


async def test_a_stream_frees_its_rows_when_the_reader_closes_it() -> None:
    sampler = FakeSampler()
    async with running(loaded(sampler=sampler)) as host:
        async with aclosing(host.stream(call(ENDLESS, flush_s=0.0))) as stream:
            assert await anext(stream) == [RowEvent(0, Accepted(1))]
            await anext(stream)
            assert len(sampler.live) == 1
        await until(lambda: not sampler.live)
        assert report_of(host).finished["abort"] == 1


async def test_cancelling_the_reader_frees_its_rows() -> None:
    sampler = FakeSampler()
    async with running(loaded(sampler=sampler)) as host:
        reader = asyncio.create_task(events(host, call(ENDLESS)))
        await until(lambda: len(sampler.live) == 1)
        reader.cancel()
        await until(lambda: not sampler.live)
        assert (await asyncio.gather(reader, return_exceptions=True))[0].__class__ is asyncio.CancelledError


async def test_a_client_error_of_prepare_is_the_only_event() -> None:
    async with running(loaded()) as host:
        failed = await failure(host, call(flush_s=0.0))
    assert (failed.status, failed.param) == (400, "tokens")


async def test_an_unexpected_error_of_prepare_is_internal_and_its_text_is_logged_nowhere(logged: Logged) -> None:
    async with running(loaded()) as host:
        failed = await failure(host, call(666))
    assert (failed.status, failed.code) == (500, "internal_error")
    (entry,) = logged()
    assert (entry["event"], entry["request_id"]) == ("call_failed", "req_1")
    assert "ValueError at" in entry["cause"]
    assert "fakes.py" in entry["cause"], "where it was raised"
    assert "secret" not in json.dumps(entry)


async def test_a_row_that_fails_leaves_its_place_in_the_log_and_its_message_nowhere(logged: Logged) -> None:
    async with running(loaded(fault="raise", fault_at=1)) as host:
        failed = (await events(host, call(3)))[-1]
    assert isinstance(failed, Failed)
    assert failed.status == 500
    assert "broken" not in failed.message
    (entry,) = logged()
    assert (entry["event"], entry["request_id"], entry["row"]) == ("row_failed", "req_1", 0)
    assert entry["error"] == "the step failed: RuntimeError"
    assert "RuntimeError at" in entry["cause"]
    assert "fake.py" in entry["cause"], "where it was raised"
    assert "broken" not in json.dumps(entry), "an error's message may quote a prompt"


async def test_a_task_that_the_model_does_not_do_names_those_that_it_does() -> None:
    async with running(loaded()) as host:
        failed = await failure(host, call(1, task="chat"))
    assert failed.code == "unsupported_task"
    assert "generate" in failed.message


async def test_a_deadline_ends_a_running_row() -> None:
    async with running(loaded()) as host:
        found = await events(host, call(ENDLESS, deadline_s=0.05))
    assert isinstance(found[-1], Failed)
    assert found[-1].status == 504


async def test_a_full_queue_refuses_with_a_time_to_come_again() -> None:
    sampler = FakeSampler(max_batch_size=1)
    async with running(loaded(sampler=sampler), max_waiting_cost=2) as host:
        first = asyncio.create_task(events(host, call(ENDLESS)))
        await until(lambda: len(sampler.live) == 1)
        others = [asyncio.create_task(events(host, call(1))) for _ in range(2)]
        await until(lambda: report_of(host).waiting_rows == 2)
        failed = await failure(host, call(1))
        for task in (first, *others):
            task.cancel()
        await asyncio.gather(first, *others, return_exceptions=True)
    assert (failed.status, failed.code) == (503, "server_is_overloaded")
    assert failed.retry_after is not None
    assert 1 <= failed.retry_after <= 30


async def test_a_call_larger_than_the_whole_queue_is_the_callers_mistake() -> None:
    async with running(loaded(), max_waiting_cost=2) as host:
        failed = await failure(host, call(1, 1, 1))
    assert (failed.status, failed.code) == (400, "request_too_costly")
    assert "3" in failed.message
    assert "2" in failed.message


async def test_interactive_calls_go_before_batch_calls() -> None:
    sampler = FakeSampler(max_batch_size=1)
    async with running(loaded(sampler=sampler)) as host:
        first = asyncio.create_task(events(host, call(ENDLESS)))
        await until(lambda: len(sampler.live) == 1)
        batch = asyncio.create_task(events(host, call(7, priority=Priority.BATCH)))
        await until(lambda: report_of(host).waiting_rows == 1)
        urgent = asyncio.create_task(events(host, call(5, priority=Priority.INTERACTIVE)))
        await until(lambda: report_of(host).waiting_rows == 2)
        first.cancel()
        await asyncio.gather(batch, urgent)
    order = [batch[0].steps for batch in sampler.batches if batch[0].steps != ENDLESS]
    assert order == [5] * 5 + [7] * 7


async def test_a_dead_device_makes_the_replica_unhealthy() -> None:
    async with running(loaded(fault="device")) as host:
        host.check_health()
        await events(host, call(1))
        with pytest.raises(EngineUnhealthy):
            host.check_health()
        assert (await failure(host, call(1))).status == 503


async def test_a_service_without_any_loadable_model_does_not_start_and_names_the_causes() -> None:
    with pytest.raises(ServiceUnusable, match="a: OSError: no such folder"):
        async with running(OSError("no such folder")):
            pass


async def test_a_service_with_one_loadable_model_starts_and_reports_the_other_as_failed() -> None:
    async with running(OSError("no such folder"), loaded()) as host:
        assert {entry.model: entry.state for entry in host.report().models} == {"a": "failed", "b": "ready"}
        assert isinstance((await events(host, call(1, model="b")))[-1], Finished)


async def test_a_model_added_later_serves_while_the_first_goes_on() -> None:
    host_of = Loader({"a": loaded(), "b": loaded()})
    host = ModelService(service("a"), replica="r", hold_s=10, resolve=lambda source: Path("/none"), loader=host_of)
    await host.start()
    try:
        async with aclosing(host.stream(call(ENDLESS, flush_s=0.0))) as stream:
            await anext(stream)
            host.apply(service("a", "b"))
            assert isinstance((await events(host, call(1, model="b")))[-1], Finished)
            assert await anext(stream), "the first stream goes on"
    finally:
        await host.stop()


async def test_a_service_that_was_changed_twice_begins_no_load_after_its_end() -> None:
    loader = Loader({"a": loaded(), "b": loaded(), "c": loaded()})
    host = ModelService(service("a"), replica="r", hold_s=10, resolve=lambda source: Path("/none"), loader=loader)
    await host.start()
    loader.gate.clear()
    host.apply(service("a", "b", "c"))
    await until(lambda: loader.loads == ["a", "b"])
    host.apply(service("a", "b", "c", max_waiting_cost=5))
    await host.stop()
    loader.gate.set()
    await until(lambda: len(asyncio.all_tasks()) == 1)
    assert loader.loads == ["a", "b"]


async def test_a_larger_queue_takes_effect_without_a_restart() -> None:
    async with running(loaded(), max_waiting_cost=1) as host:
        assert (await failure(host, call(1, 1))).status == 400
        host.apply(service("a", max_waiting_cost=2))
        assert isinstance((await events(host, call(1, 1)))[-1], Finished)


async def test_the_report_counts_what_ran() -> None:
    async with running(loaded(memory=10)) as host:
        await events(host, call(2, 3))
        report = host.report()
        entry = report_of(host)
    assert (report.service, report.replica) == ("chat", "r")
    assert (entry.state, entry.revision, entry.memory) == ("ready", "r1", 10 * 2**20)
    assert (entry.units, entry.row_steps, entry.finished["length"]) == (5, 5, 2)
    assert sum(entry.first_chunk_seconds.counts) == 2
    assert entry.limits == {"context_length": 256}


async def test_a_model_that_never_ran_reports_zeros() -> None:
    async with running(loaded(60), loaded(60)) as host:
        entry = report_of(host, "b")
    assert (entry.state, entry.steps, entry.memory) == ("cold", 0, 0)
    assert len(entry.step_seconds.counts) == len(entry.step_seconds.bounds) + 1


async def test_stopping_ends_open_calls_with_an_error() -> None:
    sampler = FakeSampler()
    async with running(loaded(sampler=sampler)) as host:
        reader = asyncio.create_task(events(host, call(ENDLESS)))
        await until(lambda: len(sampler.live) == 1)
        await host.stop()
        last = (await reader)[-1]
    assert isinstance(last, Failed)
    assert last.status == 500
