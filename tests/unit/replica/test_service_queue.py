"""Whose call goes first at a replica, and which are refused: full queues, late answers, floods."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from services.engine.contract import StepOutput
from services.model_service import PREPARE_THREADS, ModelService
from shared.calls import Call, Priority
from shared.events import Event, Finished
from shared.schemas.text import DetokenizeRequest
from tests.contract.fake import Chunk, FakeParams, FakeSampler, FakeState
from tests.unit.replica.driver import ENDLESS, call, events, failure, report_of, running
from tests.unit.replica.fakes import FakeTask, loaded, service, until


class SlowSampler(FakeSampler):
    """Slow enough that rows are seen to wait."""

    def step(self, states: Sequence[FakeState]) -> list[StepOutput[Chunk]]:
        time.sleep(0.001)
        return super().step(states)


@dataclass
class HeldTask(FakeTask):
    """Keeps the order in which calls are prepared, each by its first token; none ends before the gate opens."""

    began: list[int] = field(default_factory=list[int])
    gate: threading.Event = field(default_factory=threading.Event)

    def prepare(self, request: DetokenizeRequest, salt: str = "") -> Sequence[FakeParams]:
        self.began.append(request.tokens[0])
        assert self.gate.wait(10)
        return super().prepare(request, salt)


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


async def test_what_would_be_late_is_refused_at_once_with_both_figures() -> None:
    sampler = SlowSampler(max_batch_size=1)
    async with running(loaded(sampler=sampler, cost=50.0)) as host:
        flood = [asyncio.create_task(events(host, call(50, tenant="flood"))) for _ in range(60)]
        await until(lambda: report_of(host).pace.units_per_second is not None)
        failed = await failure(host, call(50, tenant="flood", deadline_s=0.5))
        for task in flood:
            task.cancel()
        await asyncio.gather(*flood, return_exceptions=True)
    assert (failed.status, failed.code) == (503, "server_is_overloaded")
    assert "deadline is in 0." in failed.message
    assert failed.retry_after is not None
    assert 1 <= failed.retry_after <= 30


async def test_a_service_bounds_the_predicted_wait_of_calls_without_a_deadline() -> None:
    sampler = SlowSampler(max_batch_size=1)
    async with running(loaded(sampler=sampler, cost=50.0), max_wait_s=0.001) as host:
        flood = [asyncio.create_task(events(host, call(50, tenant="flood"))) for _ in range(3)]
        await until(lambda: report_of(host).pace.units_per_second is not None)
        assert "predicted to wait" in (await failure(host, call(50, tenant="flood"))).message
        for task in flood:
            task.cancel()
        await asyncio.gather(*flood, return_exceptions=True)


async def test_a_flood_of_one_tenant_refuses_no_other() -> None:
    sampler = FakeSampler(max_batch_size=1)
    async with running(loaded(sampler=sampler), max_waiting_cost=2) as host:
        first = asyncio.create_task(events(host, call(ENDLESS, tenant="flood")))
        await until(lambda: len(sampler.live) == 1)
        others = [asyncio.create_task(events(host, call(1, tenant="flood"))) for _ in range(2)]
        await until(lambda: report_of(host).waiting_rows == 2)
        assert (await failure(host, call(1, tenant="flood"))).status == 503
        other = asyncio.create_task(events(host, call(3, tenant="other")))
        await until(lambda: report_of(host).waiting_rows == 3)
        first.cancel()
        assert isinstance((await other)[-1], Finished)
        await asyncio.gather(*others)


async def test_a_flood_of_prepares_does_not_hold_another_tenant_back() -> None:
    task = HeldTask()
    async with running(replace(loaded(), tasks={"generate": task})) as host:
        flood = [asyncio.create_task(events(host, call(1, tenant="flood"))) for _ in range(12)]
        await until(lambda: len(task.began) == PREPARE_THREADS)
        other = asyncio.create_task(events(host, call(2, tenant="other")))
        await until(lambda: len(asyncio.all_tasks()) >= 14)
        await asyncio.sleep(0)
        task.gate.set()
        await asyncio.gather(other, *flood)
    assert task.began.index(2) <= PREPARE_THREADS + 1


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


async def test_a_larger_queue_takes_effect_without_a_restart() -> None:
    async with running(loaded(), max_waiting_cost=1) as host:
        assert (await failure(host, call(1, 1))).status == 400
        host.apply(service("a", max_waiting_cost=2))
        assert isinstance((await events(host, call(1, 1)))[-1], Finished)


async def prepared_at_once(host: ModelService, task: HeldTask, *calls: Call) -> list[asyncio.Task[list[Event]]]:
    """Begin these calls of a held task, and wait until as many are prepared as may be at once."""
    begun = [asyncio.create_task(events(host, what)) for what in calls]
    await until(lambda: len(task.began) == PREPARE_THREADS)
    await asyncio.sleep(0)
    return begun


async def test_so_many_of_a_tenants_calls_wait_to_be_prepared_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.model_service.MOST_UNPREPARED", 3)
    task = HeldTask()
    async with running(replace(loaded(), tasks={"generate": task})) as host:
        flood = await prepared_at_once(host, task, *[call(1, tenant="flood")] * (PREPARE_THREADS + 3))
        refused = await failure(host, call(1, tenant="flood"))
        other = asyncio.create_task(events(host, call(2, tenant="other")))
        task.gate.set()
        assert all(isinstance(found[-1], Finished) for found in await asyncio.gather(other, *flood))
        assert isinstance((await events(host, call(1, tenant="flood")))[-1], Finished)
    assert (refused.status, refused.code) == (503, "server_is_overloaded")
    assert refused.retry_after is not None


async def test_what_would_be_prepared_too_late_is_refused_before_it_waits() -> None:
    task = HeldTask()
    async with running(replace(loaded(), tasks={"generate": task}), max_wait_s=1000) as host:
        host._prepare_s = 100.0
        flood = await prepared_at_once(host, task, *[call(1)] * (PREPARE_THREADS + 4))
        assert "4 of your requests wait" in (await failure(host, call(1, deadline_s=99))).message
        patient = asyncio.create_task(events(host, call(1, deadline_s=999)))
        task.gate.set()
        assert isinstance((await patient)[-1], Finished)
        await asyncio.gather(*flood)
    assert host._prepare_s < 100.0, "what was measured since counts"
