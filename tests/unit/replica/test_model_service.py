"""One service on one replica: the life of a call, its failures, cancellation, reconfiguration and the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import CapturingLogger

from services.engine.errors import EngineUnhealthy
from services.model_service import ModelService, ServiceUnusable
from shared.events import Accepted, Failed, Finished, RowEvent, TextDelta
from tests.contract.fake import FakeSampler
from tests.unit.replica.driver import ENDLESS, call, events, failure, report_of, running
from tests.unit.replica.fakes import Loader, loaded, service, until

Logged = Callable[[], list[dict[str, Any]]]


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


async def test_a_calls_prompts_are_salted_with_its_tenant() -> None:
    model = loaded()
    async with running(model) as host:
        for tenant in ("ann", "bob"):
            await events(host, call(1, tenant=tenant))
    assert model.tasks["generate"].salts == ["ann", "bob"]


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


async def test_a_dead_device_makes_the_replica_unhealthy() -> None:
    async with running(loaded(fault="device")) as host:
        host.check_health()
        assert host.report().healthy
        await events(host, call(1))
        with pytest.raises(EngineUnhealthy):
            host.check_health()
        assert host.report().healthy is False
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


async def test_many_streams_are_each_sent_less_often_than_one_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message costs as much as some tokens: their number a second is what is bounded."""
    pauses: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        """No time passes, but for other tasks' turns."""
        if seconds > 0:
            pauses.append(seconds)
        await real_sleep(0)

    async def read(host: ModelService, together: asyncio.Barrier) -> None:
        async with aclosing(host.stream(call(ENDLESS, flush_s=60.0))) as stream:
            await anext(stream)
            await together.wait()
            for _ in range(4):
                await anext(stream)
            await together.wait()

    async with running(loaded(sampler=FakeSampler(max_batch_size=64))) as host:
        monkeypatch.setattr(asyncio, "sleep", sleep)
        await read(host, asyncio.Barrier(1))
        alone, pauses[:] = list(pauses), []
        together = asyncio.Barrier(40)
        await asyncio.gather(*(read(host, together) for _ in range(40)))
    assert alone
    assert max(alone) <= 60
    assert 4 * 60 < min(pauses) <= max(pauses) <= 5 * 60, "40 streams share the messages of 8"
