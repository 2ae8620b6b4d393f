"""Models, drain, stop, death and health of the engine on its thread: what ends says so, and nobody waits in vain."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from services.engine.contract import FinishReason, StepOutput
from services.engine.errors import (
    DeviceFailure,
    Draining,
    EngineUnhealthy,
    ModelBusy,
    OutboxFull,
    UnknownModel,
)
from tests.contract.fake import Chunk, FakeParams, FakeSampler, FakeState
from tests.unit.engine.harness import solo
from tests.unit.engine.threaded import (
    LONG,
    PATIENCE_S,
    Fleet,
    GatedSampler,
    Start,
    pieces,
    reasons,
    take_all,
)


async def test_models_join_and_leave_between_steps(start: Start) -> None:
    fleet = await start()
    running = fleet.submit(LONG)
    await anext(running)
    await fleet.engine.register("n", FakeSampler())
    with pytest.raises(ValueError, match="registered already"):
        await fleet.engine.register("n", FakeSampler())
    busy = fleet.submit(LONG, model="n")
    with pytest.raises(ModelBusy):
        await fleet.engine.unregister("n")
    busy.abort()
    await fleet.engine.unregister("n")
    with pytest.raises(UnknownModel):
        fleet.submit(LONG, model="n")
    running.abort()


async def test_a_cancelled_registration_disturbs_nobody(start: Start) -> None:
    fleet = await start()
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    running = await fleet.shut_inside(FakeParams(steps=3))
    registration = asyncio.create_task(fleet.engine.register("n", FakeSampler()))
    await asyncio.sleep(0)
    registration.cancel()
    fleet.sampler.let_all_pass()
    assert reasons(await take_all(running)) == [FinishReason.LENGTH]
    await fleet.engine.unregister("n")
    assert complaints == []


async def test_a_drain_finishes_what_was_accepted_and_refuses_the_rest(start: Start) -> None:
    fleet = await start()
    running = await fleet.shut_inside(FakeParams(seed=1, steps=5))
    assert await fleet.engine.drain(0) is False
    with pytest.raises(Draining):
        fleet.submit(FakeParams())
    fleet.sampler.let_all_pass()
    assert await fleet.engine.drain(PATIENCE_S) is True
    assert pieces(await take_all(running)) == solo(FakeParams(seed=1, steps=5))
    assert await fleet.engine.drain(0) is True


async def test_stopping_ends_unfinished_rows_with_an_error_and_frees_them(start: Start) -> None:
    fleet = await start()
    running = fleet.submit(LONG)
    await anext(running)
    await fleet.engine.stop()
    final = (await take_all(running))[-1]
    assert isinstance(final.error, EngineUnhealthy)
    assert fleet.sampler.live == []
    await fleet.engine.stop()
    for call in (fleet.engine.health, lambda: fleet.submit(FakeParams())):
        with pytest.raises(EngineUnhealthy, match="stopped"):
            call()
    with pytest.raises(EngineUnhealthy):
        await fleet.engine.register("n", FakeSampler())


async def test_an_engine_that_was_not_started_is_unhealthy_and_one_is_started_once() -> None:
    fleet = Fleet(1.0)
    await fleet.engine.stop()
    for call in (fleet.engine.health, lambda: fleet.submit(FakeParams())):
        with pytest.raises(EngineUnhealthy, match="not been started"):
            call()
    await fleet.engine.start()
    fleet.engine.health()
    with pytest.raises(RuntimeError, match="once"):
        await fleet.engine.start()
    await fleet.engine.stop()


class Dies(FakeSampler):
    def step(self, states: Sequence[FakeState]) -> list[StepOutput[Chunk]]:
        raise SystemExit


async def test_when_the_thread_dies_every_open_row_and_command_ends_and_health_says_why(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    fleet = await start()
    waiting = await fleet.shut_inside(LONG, LONG)
    registration = asyncio.create_task(fleet.engine.register("n", Dies()))
    await asyncio.sleep(0)
    fleet.sampler.let_all_pass()
    await registration
    fleet.sampler.open = False
    await fleet.sampler.until_inside()
    doomed = fleet.submit(LONG, model="n")
    fleet.sampler.let_all_pass()
    for submission, rows in ((waiting, 2), (doomed, 1)):
        finals = [each for each in await take_all(submission) if each.finish_reason is not None]
        assert len(finals) == rows
        assert all(isinstance(each.error, EngineUnhealthy) for each in finals)
    with pytest.raises(EngineUnhealthy, match="SystemExit"):
        fleet.engine.health()
    with pytest.raises(EngineUnhealthy):
        fleet.submit(LONG)
    assert "the engine thread died" in caplog.text


async def test_a_command_under_way_when_the_thread_dies_is_answered(start: Start) -> None:
    class DiesInside(GatedSampler):
        def release(self, state: FakeState) -> None:
            raise SystemExit

    fleet = await start()
    deadly = DiesInside()
    await fleet.engine.register("n", deadly)
    deadly.open = False
    fleet.submit(FakeParams(steps=1), model="n")
    await deadly.until_inside()
    command = asyncio.create_task(fleet.engine.register("o", FakeSampler()))
    await asyncio.sleep(0)
    deadly.let_all_pass()
    with pytest.raises(EngineUnhealthy):
        await command


async def test_a_failed_device_ends_all_rows_and_fails_health_and_what_was_on_its_way(start: Start) -> None:
    fleet = await start()
    running = await fleet.shut_inside(LONG, FakeParams(fault="device"))
    on_its_way = fleet.submit(FakeParams(steps=1))
    fleet.sampler.let_all_pass()
    outputs = await take_all(running)
    assert reasons(outputs) == [FinishReason.ERROR] * 2
    assert all(isinstance(each.error, DeviceFailure) for each in outputs)
    assert isinstance((await take_all(on_its_way))[-1].error, EngineUnhealthy)
    for call in (fleet.engine.health, lambda: fleet.submit(FakeParams())):
        with pytest.raises(EngineUnhealthy, match="the device is gone"):
            call()


async def test_health_notices_a_step_that_hangs_and_that_it_went_on(start: Start) -> None:
    fleet = await start(hung_step_s=60.0)
    running = await fleet.shut_inside(FakeParams(steps=1))
    fleet.clock.now = 60.0
    fleet.engine.health()
    fleet.clock.now = 60.5
    with pytest.raises(EngineUnhealthy, match="60 s"):
        fleet.engine.health()
    fleet.sampler.let_all_pass()
    await take_all(running)
    fleet.engine.health()


async def test_a_consumer_that_takes_nothing_loses_its_submission_and_nobody_elses(start: Start) -> None:
    fleet = await start(max_outbox=5)
    lazy = fleet.submit(LONG)
    other = fleet.submit(FakeParams(seed=1, steps=3))
    assert pieces(await take_all(other)) == solo(FakeParams(seed=1, steps=3))
    assert await fleet.engine.drain(PATIENCE_S)
    outputs = await take_all(lazy)
    assert isinstance(outputs[-1].error, OutboxFull)
    assert pieces(outputs) == solo(FakeParams(seed=9, steps=5))


async def test_stats_can_be_read_while_a_step_runs(start: Start) -> None:
    fleet = await start()
    running = await fleet.shut_inside(FakeParams(steps=1))
    assert fleet.engine.stats()["m"].running_rows == 1
    fleet.sampler.let_all_pass()
    await take_all(running)
    assert fleet.engine.stats()["m"].finished[FinishReason.LENGTH] == 1


def test_a_loop_that_closes_without_stopping_the_engine_does_not_leave_the_thread_running(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fleet = Fleet(10.0)
    asyncio.run(fleet.engine.start())
    fleet.submit(FakeParams(steps=1))
    (thread,) = (each for each in threading.enumerate() if each.name == "castalia-engine")
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert "closed before" in caplog.text
