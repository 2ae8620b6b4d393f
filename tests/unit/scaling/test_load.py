"""What a replica says of its load, from its models' counters."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest

from services.scaling.load import LEAST_S, MEMORY_S, LoadMeter, ModelLoad, ReplicaLoad


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def model(name: str = "m", **changes: float | None) -> ModelLoad:
    values = {"rows": 0, "free_rows": 16, "done": 0.0, "queued": 0.0, "wait_s": 0.0, "units_per_second": 100.0}
    return ModelLoad(model=name, **{**values, **changes})  # type: ignore[arg-type]


def steady(seconds: float, *, done: float, queued: float = 0.0) -> ReplicaLoad:
    """A replica that did so many units a second, while its queue grew by so many."""
    clock = Clock()
    meter = LoadMeter(clock)
    meter.read([model()])
    found = ReplicaLoad()
    for step in range(1, math.ceil(seconds) + 1):
        clock.now = float(step)
        found = meter.read([model(done=step * done, queued=step * queued)])
    return found


def test_a_replica_that_does_half_of_what_it_can_is_half_busy_from_the_first_seconds_on() -> None:
    assert steady(LEAST_S, done=50).busy == pytest.approx(0.5, rel=0.2)
    assert steady(10 * MEMORY_S, done=50).busy == pytest.approx(0.5)


def test_a_growing_queue_is_work_that_arrives_over_what_is_done() -> None:
    load = steady(10 * MEMORY_S, done=100, queued=150)
    assert (load.busy, load.arriving) == (pytest.approx(1.0), pytest.approx(2.5))


def test_a_shrinking_queue_is_work_that_arrived_before_and_nothing_arrives_below_zero() -> None:
    assert steady(10 * MEMORY_S, done=100, queued=-20).arriving == pytest.approx(0.8)
    assert steady(5, done=0, queued=-20).arriving == 0


def test_the_first_reading_of_a_replica_says_nothing_of_rates() -> None:
    load = LoadMeter(Clock()).read([model(rows=3, wait_s=2.0)])
    assert load == ReplicaLoad(rows=3.0, wait_s=2.0, is_paced=1.0)


def test_one_busy_moment_of_a_new_replica_is_no_rate() -> None:
    clock = Clock()
    meter = LoadMeter(clock)
    meter.read([model()])
    clock.now = 0.1
    assert meter.read([model(done=50)]).busy == pytest.approx(0.5 / LEAST_S, rel=0.01)


def test_a_model_without_a_pace_is_as_busy_as_its_batch_is_full_and_stays_so_as_its_pace_becomes_known() -> None:
    clock = Clock()
    meter = LoadMeter(clock)
    found: list[ReplicaLoad] = []
    for second in range(20):
        clock.now = float(second)
        paced = {} if second > 15 else {"wait_s": None, "units_per_second": None}
        found.append(meter.read([model(rows=4, free_rows=12, done=25.0 * second, **paced)]))
    assert found[15] == ReplicaLoad(rows=4.0, busy=pytest.approx(0.25), arriving=pytest.approx(0.25))
    assert found[19] == replace(found[15], is_paced=1.0)


def test_a_replica_waits_for_its_slowest_model_and_is_never_more_than_busy() -> None:
    clock = Clock()
    meter = LoadMeter(clock)
    meter.read([model("a"), model("b")])
    clock.now = LEAST_S
    load = meter.read([model("a", done=450, wait_s=3.0), model("b", done=450, wait_s=7.0)])
    assert (load.wait_s, load.busy) == (7.0, 1.0)


def test_what_a_replica_says_survives_rays_plain_numbers_and_a_part_of_it_is_nothing() -> None:
    load = ReplicaLoad(1.0, 2.0, 0.5, 0.75, 1.0)
    metrics = load.as_metrics()
    assert all(isinstance(value, float) for value in metrics.values())
    assert ReplicaLoad.from_metrics({**metrics, "ongoing": 7.0}) == load
    for name in metrics:
        assert ReplicaLoad.from_metrics({key: value for key, value in metrics.items() if key != name}) is None
