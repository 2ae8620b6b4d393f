"""Refusing early at the replica: goodput under overload, shares and priorities, and what is told to the refused."""

from __future__ import annotations

import pytest

from services.engine.stats import ModelCounters
from shared.calls import Priority
from shared.errors import Overloaded
from tests.contract.fake import FakeParams
from tests.unit.replica.overload_sim import CALL, CAPACITY, ROWS, STEP_S, STEPS, Simulation, Stream

MEAN_S = STEP_S * sum(STEPS) / 2  # a row alone


def goodput(times: float, seconds: float = 120) -> tuple[float, Stream]:
    """Answers in time a second, at so many times what the replica can do."""
    stream = Stream(times * CAPACITY)
    simulation = Simulation()
    simulation.run(seconds, stream)
    return len(stream.seconds) / simulation.clock.now, stream


@pytest.mark.parametrize("times", [2, 10])
def test_goodput_stays_at_its_peak_when_more_is_asked_for_than_can_be_done(times: float) -> None:
    peak, _ = goodput(0.95)
    rate, stream = goodput(times)
    assert rate >= 0.9 * peak
    assert stream.late <= 0.02 * len(stream.seconds), "what was admitted was in time"


def test_without_refusals_almost_every_answer_would_be_late() -> None:
    """What the tests above would show if admission did nothing."""
    stream = Stream(10 * CAPACITY)
    simulation = Simulation(is_checked=False)
    simulation.run(60, stream)
    assert stream.refused == 0
    assert stream.late > 5 * len(stream.seconds)


def test_below_capacity_nothing_is_refused() -> None:
    _, stream = goodput(0.9)
    assert (stream.refused, stream.late) == (0, 0)


def test_costs_that_overstate_the_work_do_not_refuse_what_would_be_in_time() -> None:
    honest, padded = Stream(2 * CAPACITY), Stream(2 * CAPACITY, factor=8.0)
    for stream in (honest, padded):
        Simulation().run(120, stream)
    assert len(padded.seconds) >= 0.9 * len(honest.seconds)


def test_batch_is_shed_first_then_default_and_interactive_last() -> None:
    streams = [Stream(CAPACITY * 0.8, tenant=each.name, priority=each) for each in Priority]
    Simulation().run(120, *streams)
    answered = [len(stream.seconds) / stream.sent for stream in streams]
    assert answered[0] >= 0.95
    assert answered[0] > answered[1] > answered[2]
    assert streams[2].refused > streams[1].refused > streams[0].refused == 0


def test_a_flood_does_not_refuse_another_tenant_and_delays_it_by_no_more_than_a_row() -> None:
    alone = Stream(0.2 * CAPACITY, tenant="b")
    Simulation().run(60, alone)
    flood, other = Stream(10 * CAPACITY), Stream(0.2 * CAPACITY, tenant="b")
    Simulation().run(60, flood, other)
    assert flood.refused > 0
    assert (other.refused, other.late) == (0, 0)
    longest_row_s = STEPS[1] * STEP_S
    assert max(other.seconds) <= max(alone.seconds) + longest_row_s


def test_a_tenant_that_floods_ten_times_harder_gets_no_more_than_its_share() -> None:
    a, b = Stream(20 * CAPACITY, tenant="a"), Stream(2 * CAPACITY, tenant="b")
    Simulation().run(120, a, b)
    assert len(b.seconds) == pytest.approx(len(a.seconds), rel=0.25)


def test_no_request_waits_longer_than_the_service_allows_even_without_a_deadline_of_its_own() -> None:
    stream = Stream(5 * CAPACITY, deadline_s=600.0)
    simulation = Simulation(max_wait_s=5.0)
    simulation.run(60, stream)
    assert stream.refused > 0
    assert max(stream.seconds) <= 1.25 * 5.0 + STEPS[1] * STEP_S + MEAN_S


def test_a_refusal_says_both_figures_and_when_there_would_be_room() -> None:
    _, stream = goodput(10, seconds=30)
    assert stream.retry_after
    assert all(1.0 <= seconds <= 30.0 for seconds in stream.retry_after)


def test_an_idle_replica_takes_what_it_was_too_slow_for_under_load() -> None:
    """A pace that was learned in a full batch must not keep the replica idle afterwards."""
    simulation = Simulation()
    simulation.run(30, Stream(10 * CAPACITY))
    assert not simulation.engine.has_work
    simulation.admission.check(CALL, [FakeParams(cost=1000.0)], left_s=0.1, max_wait_s=60)


def test_a_burst_that_the_free_places_take_at_once_is_not_refused() -> None:
    """None of it waits, however much the calls before cost: they start together at the next step."""
    simulation = Simulation()
    simulation.run(30, Stream(3 * CAPACITY))
    for _ in range(ROWS):
        simulation.admission.check(CALL, [FakeParams(steps=1, cost=2000.0)], left_s=None, max_wait_s=5.0)
        simulation.engine.submit("m", [FakeParams(steps=1, cost=2000.0)])
    with pytest.raises(Overloaded):
        simulation.admission.check(CALL, [FakeParams(steps=1, cost=2000.0)], left_s=None, max_wait_s=5.0)


def test_places_that_rows_wait_for_in_vain_are_not_free() -> None:
    """A batch may be full by its memory before it is full by number."""
    simulation = Simulation()
    for _ in range(2):
        simulation.engine.submit("m", [FakeParams(steps=100, size=600)])
    assert simulation.engine.stats()["m"].free_rows == ROWS
    simulation.engine.step()
    assert simulation.engine.stats()["m"].free_rows == 0


def test_an_unknown_pace_refuses_nothing() -> None:
    simulation = Simulation()
    for _ in range(2 * ROWS):
        simulation.engine.submit("m", [FakeParams(cost=1e6)])
    simulation.engine.step()
    assert simulation.engine.waiting("m")
    simulation.admission.check(CALL, [FakeParams(cost=1e6)], left_s=0.001, max_wait_s=0.001)


def test_bounds_are_learned_from_the_costs_that_they_turn_out_to_be() -> None:
    """All rows cost something, and the longest says how long they take: they run beside each other."""
    admission, stats = Simulation().admission, ModelCounters().snapshot()
    assert admission.pace("m", stats).exact is None
    for _ in range(3):
        rows = [FakeParams(cost=cost, steps=steps) for cost, steps in ((40.0, 40), (60.0, 100), (100.0, 7))]
        admission.learn("m", rows, bound=400.0)
    learned = admission.pace("m", stats)
    assert (learned.exact, learned.exact_steps) == (pytest.approx(0.5), pytest.approx(0.25))
    for _ in range(200):
        admission.learn("m", [FakeParams(cost=400.0, steps=400)], bound=400.0)
    learned = admission.pace("m", stats)
    assert (learned.exact, learned.exact_steps) == (pytest.approx(1.0, abs=0.01), pytest.approx(1.0, abs=0.01))


def test_the_time_to_come_again_is_that_of_the_excess_at_the_learned_rate() -> None:
    simulation = Simulation()
    assert simulation.admission.retry_after_s("m", 100.0) == 30.0
    simulation.run(30, Stream(3 * CAPACITY))
    rate = ROWS / STEP_S
    assert simulation.admission.retry_after_s("m", 10 * rate) == pytest.approx(10.0, rel=0.1)
