"""Submissions to the engine on its thread: each gets its own rows, in order, and nobody waits for a step."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from services.engine.contract import FinishReason
from services.engine.errors import (
    QueueFull,
    RowFailed,
    UnknownModel,
)
from tests.contract.fake import FakeParams
from tests.unit.engine.harness import solo
from tests.unit.engine.threaded import (
    LONG,
    PATIENCE_S,
    GatedStart,
    Start,
    pieces,
    reasons,
    take_all,
)


async def test_concurrent_submissions_stream_their_own_rows_in_order(start: Start) -> None:
    fleet = await start()
    rows = [FakeParams(seed=seed, steps=20 + seed) for seed in range(6)]
    taken = await asyncio.gather(take_all(fleet.submit(rows[0], rows[1])), *map(take_all, map(fleet.submit, rows[2:])))
    assert [pieces(taken[0], 0), pieces(taken[0], 1)] == [solo(rows[0]), solo(rows[1])]
    assert [pieces(outputs) for outputs in taken[1:]] == [solo(params) for params in rows[2:]]
    assert fleet.sampler.live == []


async def test_submit_and_abort_do_not_wait_for_a_running_step(start: Start) -> None:
    fleet = await start()
    running = await fleet.shut_inside(LONG)
    waiting = fleet.submit(LONG)
    waiting.abort()
    running.abort()  # all of it returned while the thread stands in a step
    fleet.sampler.let_all_pass()
    assert reasons(await take_all(waiting)) == reasons(await take_all(running)) == [FinishReason.ABORT]
    assert fleet.sampler.live == []


async def test_a_submission_can_be_aborted_twice_and_after_its_end(start: Start) -> None:
    fleet = await start()
    submission = fleet.submit(LONG)
    submission.abort()
    submission.abort()
    await take_all(submission)
    submission.abort()
    assert pieces(await take_all(fleet.submit(FakeParams(steps=2)))) == solo(FakeParams(steps=2))


async def test_a_cancelled_consumer_that_aborts_frees_its_place(start: Start) -> None:
    fleet = await start()

    async def consume() -> None:
        submission = fleet.submit(*[LONG] * 4)
        try:
            async for _ in submission:
                consuming.set()
        finally:
            submission.abort()

    consuming = asyncio.Event()
    consumer = asyncio.create_task(consume())
    await consuming.wait()
    consumer.cancel()
    assert reasons(await take_all(fleet.submit(FakeParams(steps=1)))) == [FinishReason.LENGTH]


async def test_a_deadline_passes_while_rows_run(start: Start) -> None:
    fleet = await start()
    submission = await fleet.shut_inside(LONG)
    late = fleet.submit(LONG, deadline=5.0)
    fleet.clock.now = 5.0
    fleet.sampler.let_all_pass()
    assert reasons(await take_all(late)) == [FinishReason.DEADLINE]
    submission.abort()


async def test_one_step_makes_one_hand_off_to_the_event_loop(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = await start()
    loop = asyncio.get_running_loop()
    hand_offs: list[int] = []
    original = loop.call_soon_threadsafe

    def spy(callback: Callable[..., Any], *args: Any, **options: Any) -> asyncio.Handle:
        if threading.current_thread().name == "castalia-engine":
            hand_offs.append(len(args[0]))
        return original(callback, *args, **options)

    monkeypatch.setattr(loop, "call_soon_threadsafe", spy)
    submissions = [fleet.submit(FakeParams(steps=5), FakeParams(steps=5)) for _ in range(2)]
    await asyncio.gather(*map(take_all, submissions))
    assert len(hand_offs) == len(fleet.sampler.batches)
    assert sum(hand_offs) == 20


async def test_an_idle_thread_sleeps_until_it_is_woken(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts: list[float | None] = []
    original = threading.Condition.wait

    def spy(condition: threading.Condition, timeout: float | None = None) -> bool:
        if threading.current_thread().name == "castalia-engine":
            timeouts.append(timeout)
        return original(condition, timeout)

    monkeypatch.setattr(threading.Condition, "wait", spy)
    fleet = await start()
    for done in (1, 2, 3):
        await take_all(fleet.submit(FakeParams(steps=1)))
        assert fleet.inner.steps == done
    await fleet.engine.stop()
    assert set(timeouts) <= {None}


async def test_the_queue_bound_counts_what_the_thread_has_not_taken_yet(start: Start) -> None:
    fleet = await start(max_waiting_cost=10)
    running = await fleet.shut_inside(FakeParams(steps=1, cost=10))
    waiting = fleet.submit(FakeParams(steps=1, cost=6))
    with pytest.raises(QueueFull) as refusal:
        fleet.submit(FakeParams(cost=5))
    assert refusal.value.waiting == 6
    fleet.sampler.let_all_pass()
    await asyncio.gather(take_all(running), take_all(waiting))
    await take_all(fleet.submit(FakeParams(steps=1, cost=10)))


async def test_the_queue_bound_counts_what_the_thread_is_taking_right_now(start: Start) -> None:
    fleet = await start(max_waiting_cost=10)
    slow = GatedStart()
    await fleet.engine.register("n", slow)
    running = fleet.submit(FakeParams(steps=1, cost=8), model="n")
    await slow.until_inside()
    with pytest.raises(QueueFull):
        fleet.submit(FakeParams(cost=3))
    assert [(each.share.tenant, each.cost) for each in fleet.engine.waiting("n")] == [("default", 8)]
    slow.let_all_pass()
    await take_all(running)


async def test_an_ended_submission_is_not_kept(start: Start) -> None:
    fleet = await start()
    submission = fleet.submit(FakeParams(steps=1), FakeParams(steps=2))
    await take_all(submission)
    kept = weakref.ref(submission)
    del submission
    # The thread lets go of its last turn's outputs when it makes the next.
    await take_all(fleet.submit(FakeParams(steps=1)))
    gc.collect()
    assert kept() is None


async def test_unknown_models_and_malformed_rows_are_refused_at_once(start: Start) -> None:
    fleet = await start()
    with pytest.raises(UnknownModel):
        fleet.submit(FakeParams(), model="nobody")
    with pytest.raises(ValueError, match="at least one row"):
        fleet.submit()
    with pytest.raises(ValueError, match="weight"):
        fleet.submit(FakeParams(), weight=-1.0)


async def test_a_request_that_the_thread_cannot_queue_ends_with_an_error(start: Start) -> None:
    fleet = await start()
    (final,) = await take_all(fleet.submit(FakeParams(key=[])))
    assert isinstance(final.error, RowFailed)
    assert isinstance(final.error.__cause__, TypeError)
    assert await fleet.engine.drain(PATIENCE_S)
