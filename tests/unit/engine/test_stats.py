"""The counters say what happened: to whom, how often, and for how long."""

from __future__ import annotations

import pytest

from services.engine.contract import FinishReason
from services.engine.stats import ROW_BOUNDS, STEP_BOUNDS, WAIT_BOUNDS, Histogram, ModelCounters
from tests.contract.fake import FakeParams, FakeSampler
from tests.unit.engine.harness import Harness


def one_observation(bounds: tuple[float, ...], seconds: float) -> Histogram:
    counts = tuple(int(low < seconds <= high) for low, high in zip((-1.0, *bounds), (*bounds, 1e9), strict=True))
    return Histogram(bounds, counts, seconds)


def test_gauges_follow_rows_from_the_queue_to_the_batch_and_out() -> None:
    harness = Harness(FakeSampler(max_batch_size=1))
    harness.submit(FakeParams(steps=2, cost=3.0), FakeParams(steps=2, cost=4.0))
    stats = harness.engine.stats()["m"]
    assert (stats.waiting_rows, stats.waiting_cost, stats.running_rows) == (2, 7.0, 0)
    harness.step()
    stats = harness.engine.stats()["m"]
    assert (stats.waiting_rows, stats.waiting_cost, stats.running_rows) == (1, 4.0, 1)
    harness.finish()
    harness.check_nothing_is_left()


def test_steps_rows_and_units_are_counted_by_model() -> None:
    harness = Harness({"m": FakeSampler(), "n": FakeSampler()})
    harness.submit(FakeParams(steps=2), FakeParams(steps=1))
    harness.finish()
    stats = harness.engine.stats()
    assert (stats["m"].steps, stats["m"].row_steps, stats["m"].units) == (2, 3, 3.0)
    assert (stats["n"].steps, stats["n"].row_steps, stats["n"].units) == (0, 0, 0.0)
    assert stats["m"].batch_rows == Histogram(ROW_BOUNDS, (1, 1, *[0] * (len(ROW_BOUNDS) - 1)), 3.0)
    assert stats["m"].places == FakeSampler().max_batch_size


def test_rows_are_counted_by_how_they_end() -> None:
    harness = Harness(FakeSampler(max_batch_size=8))
    harness.submit(FakeParams(steps=1))
    harness.submit(FakeParams(fault="raise"))
    late = harness.submit(FakeParams(steps=9), FakeParams(steps=9), deadline=1.0)
    aborted = harness.submit(FakeParams(steps=9))
    harness.step()
    harness.engine.abort(aborted)
    harness.clock.now = 1.0
    harness.finish()
    assert harness.reason(late) is FinishReason.DEADLINE
    assert harness.engine.stats()["m"].finished == {
        FinishReason.STOP: 0,
        FinishReason.LENGTH: 1,
        FinishReason.ABORT: 1,
        FinishReason.DEADLINE: 2,
        FinishReason.ERROR: 1,
    }


def test_times_in_the_queue_to_the_first_chunk_and_in_a_step_are_observed() -> None:
    class TakesTime(FakeSampler):
        def step(self, states):  # type: ignore[no-untyped-def]
            harness.clock.now += 0.03
            return super().step(states)

    harness = Harness(TakesTime())
    harness.submit(FakeParams(silent=1, steps=2), submitted_at=-0.5)
    harness.step()
    stats = harness.engine.stats()["m"]
    assert stats.queue_seconds == one_observation(WAIT_BOUNDS, 0.5)
    assert stats.step_seconds == one_observation(STEP_BOUNDS, 0.03)
    assert sum(stats.first_chunk_seconds.counts) == 0
    harness.step(2)
    assert harness.engine.stats()["m"].first_chunk_seconds == one_observation(WAIT_BOUNDS, 0.56)
    (outputs,) = harness.outputs.values()
    assert outputs
    assert {each.queued_s for each in outputs} == {0.5}, "whichever of them is taken says so"


def test_an_observation_on_a_bound_counts_as_at_most_it_and_one_over_all_bounds_is_kept() -> None:
    counters = ModelCounters()
    counters.first_chunk(WAIT_BOUNDS[2])
    counters.first_chunk(WAIT_BOUNDS[-1] + 1)
    counts = counters.snapshot().first_chunk_seconds.counts
    assert [index for index, count in enumerate(counts) if count] == [2, len(WAIT_BOUNDS)]


def test_a_snapshot_does_not_change_afterwards() -> None:
    harness = Harness()
    before = harness.engine.stats()["m"]
    harness.submit(FakeParams(steps=1))
    harness.finish()
    assert before.finished[FinishReason.LENGTH] == 0
    assert before == ModelCounters(FakeSampler().max_batch_size).snapshot()


def slow(harness_clock: list[Harness], seconds: float = 0.5) -> FakeSampler:
    """A sampler of one row whose steps take time on the harness's clock."""

    class TakesTime(FakeSampler):
        def step(self, states):  # type: ignore[no-untyped-def]
            harness_clock[0].clock.now += seconds
            return super().step(states)

    return TakesTime(max_batch_size=1)


def test_the_pace_is_measured_while_rows_wait_and_not_before() -> None:
    harnesses: list[Harness] = []
    harness = Harness(slow(harnesses))
    harnesses.append(harness)
    harness.submit(FakeParams(steps=5))
    harness.finish()
    assert harness.engine.stats()["m"].pace.units_per_second is None, "a batch with room says nothing of a full one"
    for _ in range(3):
        harness.submit(FakeParams(steps=5))
    harness.finish()
    assert harness.engine.stats()["m"].pace.units_per_second == pytest.approx(2.0)


def test_the_turns_of_other_models_count_in_a_models_pace() -> None:
    harnesses: list[Harness] = []
    harness = Harness({"m": slow(harnesses), "n": slow(harnesses)})
    harnesses.append(harness)
    for model in ("m", "n"):
        for _ in range(3):
            harness.submit(FakeParams(steps=5), model=model)
    harness.step(20)
    assert harness.engine.stats()["m"].pace.units_per_second == pytest.approx(1.0)


def test_the_latest_pace_counts_most() -> None:
    counters = ModelCounters()
    counters.enqueued(1.0)
    for second in range(100):
        counters.stepped(1, 1, 1.0 if second < 50 else 3.0, 1.0, at=float(second))
    rate = counters.snapshot().pace.units_per_second
    assert rate == pytest.approx(3.0, rel=0.02)


def test_a_rows_own_pace_and_what_it_used_of_its_cost_are_learned() -> None:
    harnesses: list[Harness] = []
    harness = Harness(slow(harnesses))
    harnesses.append(harness)
    harness.submit(FakeParams(steps=5, cost=20.0))
    harness.finish()
    pace = harness.engine.stats()["m"].pace
    assert (pace.seconds_per_step, pace.used) == (pytest.approx(0.5), pytest.approx(0.25))


def test_a_row_that_was_late_says_nothing_of_what_it_would_have_used() -> None:
    counters = ModelCounters()
    counters.started(100.0)
    counters.stepped(1, 1, 4.0, 8.0, at=8.0)
    counters.finished(FinishReason.DEADLINE, ran=True, cost=100.0, units=4.0, steps=50.0, moved=1)
    counters.finished(FinishReason.DEADLINE, ran=False, cost=100.0, units=0.0, steps=50.0, moved=0)
    pace = counters.snapshot().pace
    assert (pace.seconds_per_step, pace.used) == (None, None)


def test_what_a_step_takes_a_row_is_what_it_takes_now() -> None:
    """Prompts are read by few steps, so the time of a unit says nothing of an answer's; and a full batch is slower."""
    counters = ModelCounters()
    for _ in range(17):
        counters.started(100.0)
    counters.finished(FinishReason.STOP, ran=True, cost=100.0, units=100.0, steps=40.0, moved=40)
    at = 0.0
    for seconds, moved, steps in ((0.05, 16, 200), (0.2, 16, 200), (0.2, 8, 200)):
        for _ in range(steps):
            at += seconds
            counters.stepped(16, moved, 64.0, seconds, at=at)
        expected = seconds * 16 / moved  # half of the rows wait for their turn to read their prompts
        assert counters.snapshot().pace.seconds_per_step == pytest.approx(expected, rel=0.01)


def test_rows_that_end_before_their_longest_take_fewer_steps() -> None:
    counters = ModelCounters()
    for _ in range(4):
        counters.started(100.0)
        counters.stepped(1, 1, 1.0, 0.1, at=0.0)
        counters.finished(FinishReason.STOP, ran=True, cost=100.0, units=50.0, steps=64.0, moved=16)
    assert counters.snapshot().pace.seconds_per_step == pytest.approx(0.1 / 4)


def test_the_time_in_which_nothing_ran_is_no_rows_time() -> None:
    counters = ModelCounters()
    for at in (1.0, 1000.0):
        counters.started(1.0)
        counters.stepped(1, 1, 1.0, 0.5, at=at)
        counters.finished(FinishReason.STOP, ran=True, cost=1.0, units=1.0, steps=1.0, moved=1)
    assert counters.snapshot().pace.seconds_per_step == pytest.approx(0.5)


def test_many_small_rows_do_not_hide_what_the_large_ones_use_and_take() -> None:
    """Tokenizing is a row of one unit; were it to count as a generation does, a queue would look ten times as long."""
    counters = ModelCounters()
    for cost, units, times in ((2000.0, 200.0, 20), (1.0, 1.0, 200)):
        for _ in range(times):
            counters.started(cost)
            counters.finished(FinishReason.STOP, ran=True, cost=cost, units=units, steps=cost, moved=1)
    pace = counters.snapshot().pace
    assert pace.used == pytest.approx(0.1, rel=0.1)
    for _ in range(40):
        counters.started(2000.0)
        counters.finished(FinishReason.STOP, ran=True, cost=2000.0, units=1000.0, steps=2000.0, moved=1)
    assert counters.snapshot().pace.used == pytest.approx(0.5, rel=0.1)
