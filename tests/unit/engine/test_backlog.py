"""What waits is counted by who waits for it, from submission to start, and a flood fills nobody else's room."""

from __future__ import annotations

import pytest

from services.engine.backlog import Backlog, Share, Waiting
from services.engine.errors import QueueFull
from tests.contract.fake import FakeParams, FakeSampler
from tests.unit.engine.harness import Harness
from tests.unit.engine.threaded import Start, take_all

A, B = Share(1, "a", 1.0), Share(1, "b", 2.0)


def test_entries_are_summed_by_model_priority_and_tenant_and_leave_nothing_behind() -> None:
    backlog = Backlog()
    entered = [("m", A, 0.1), ("m", A, 0.2), ("m", B, 1.0), ("n", A, 4.0), ("m", Share(2, "a", 1.0), 8.0)]
    for entry in entered:
        backlog.enter(*entry)
    assert len(backlog.of("m")) == 3
    assert Waiting(B, 1.0, 1) in backlog.of("m")
    assert backlog.cost(A) == pytest.approx(4.3)
    for entry in entered:
        backlog.leave(*entry)
    assert (backlog.of("m"), backlog.total, backlog.cost(A)) == ((), 0.0, 0.0)


def test_a_tenants_newest_weight_counts() -> None:
    backlog = Backlog()
    backlog.enter("m", A, 1.0)
    backlog.enter("m", Share(1, "a", 3.0), 1.0)
    assert backlog.of("m") == (Waiting(Share(1, "a", 3.0), 2.0, 2),)


def test_rows_wait_in_the_backlog_until_they_start_or_are_dropped() -> None:
    harness = Harness(FakeSampler(max_batch_size=1))
    harness.submit(FakeParams(cost=3.0), FakeParams(cost=4.0), tenant="a")
    dropped = harness.submit(FakeParams(cost=5.0), tenant="b")
    harness.step()
    assert {each.share.tenant: each.cost for each in harness.engine.waiting("m")} == {"a": 4.0, "b": 5.0}
    harness.engine.abort(dropped)
    assert {each.share.tenant: each.cost for each in harness.engine.waiting("m")} == {"a": 4.0}
    harness.finish()
    harness.check_nothing_is_left()


def test_a_flood_takes_no_other_tenants_and_no_other_prioritys_room() -> None:
    harness = Harness(FakeSampler(max_batch_size=1), max_waiting_cost=10)
    harness.submit(FakeParams(cost=10), tenant="flood")
    with pytest.raises(QueueFull):
        harness.submit(FakeParams(cost=1), tenant="flood")
    harness.submit(FakeParams(cost=10), tenant="other")
    harness.submit(FakeParams(cost=10), tenant="flood", priority=0)
    harness.finish()
    harness.check_nothing_is_left()


async def test_a_job_counts_from_its_submission_and_not_twice(start: Start) -> None:
    fleet = await start()
    running = await fleet.shut_inside(FakeParams(steps=1, cost=10))
    waiting = fleet.submit(
        FakeParams(steps=1, cost=6), tenant="a"
    )  # the thread stands in a step: it is in no queue yet
    assert [(each.share.tenant, each.cost) for each in fleet.engine.waiting("m")] == [("a", 6)]
    fleet.sampler.let_all_pass()
    await take_all(running)
    await take_all(waiting)
    assert fleet.engine.waiting("m") == ()


async def test_a_job_that_the_thread_cannot_queue_leaves_the_backlog(start: Start) -> None:
    fleet = await start()
    await take_all(fleet.submit(FakeParams(key=[], cost=5)))
    assert fleet.engine.waiting("m") == ()
