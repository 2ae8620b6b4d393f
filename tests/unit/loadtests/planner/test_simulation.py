"""The course of a service over a forecast: beside the other simulation, and beside itself when it is thinned."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest

from loadtests import autoscaling_arrivals as recorded
from loadtests.autoscaling_policies import predicted_wait
from loadtests.autoscaling_sim import Service as OtherService
from loadtests.autoscaling_sim import Simulation as Other
from loadtests.planner.results import Difference, figures
from loadtests.planner.simulation import Simulation
from loadtests.planner.thinning import LEAST, Thinning
from loadtests.planner.traffic import Traffic
from tests.unit.loadtests.planner.plans import a_service

REST_S = 600
EXACT = Thinning(1, LEAST, [1.0] * 10_000)


def played(thinning: Thinning = EXACT, *, seconds: int, seed: int = 0, **fields: Any) -> Simulation:
    service = a_service(**fields)
    return Simulation(service, Traffic(service.traffic, seconds), thinning, seed).play()


SEEDS = range(2)  # a policy's thresholds make a replica more or less a matter of chance


def by_ticks(trace: str, seed: int) -> tuple[float, float, float]:
    """Replica-seconds, the share that was late, the most replicas, of loadtests/autoscaling_sim.py."""
    service, arrivals = OtherService(), recorded.read(trace)
    run = Other(service, predicted_wait(service), seed=seed).play(arrivals, rest_s=REST_S)
    late = sum(wait > 5 for wait in run.waits) + run.refused
    return run.replica_s, late / sum(arrivals), max(run.paid)


def by_events(trace: str, seed: int) -> tuple[float, float, float]:
    seconds = len(recorded.read(trace)) + REST_S
    traffic = [{"arrivals": str(recorded.FOLDER / f"{trace}.txt")}]
    found = figures(played(seconds=seconds, seed=seed, traffic=traffic))
    assert found.requests == sum(recorded.read(trace))
    return found.replica_hours * 3600, 1 - found.attainment, found.replicas_most


@pytest.mark.parametrize("trace", ["burst", "on-off"])
def test_it_agrees_with_the_simulation_that_autoscaling_is_reported_with(trace: str) -> None:
    """Two models of their own: by events and by ticks, and the policy called as it is and through Ray's functions."""
    paid_s, late, most = np.mean([by_ticks(trace, seed) for seed in SEEDS], axis=0)
    our_paid_s, our_late, our_most = np.mean([by_events(trace, seed) for seed in SEEDS], axis=0)
    assert our_paid_s == pytest.approx(paid_s, rel=0.06)
    assert our_late == pytest.approx(late, abs=0.01)
    assert our_most == pytest.approx(most, abs=0.75)


LARGE: dict[str, Any] = {
    "replicas": {"min": 4, "max": 400, "target_ongoing": 12, "downscale_delay_s": 60},
    "first_replicas": None,
    "max_wait_s": 20,
    "traffic": [{"points": [[0, 100], [150, 100], [450, 250], [600, 250]]}],
}


@cache
def large(factor: float) -> Simulation:
    return played(Thinning(factor, LEAST, [1.0] * 200), seconds=600, **LARGE)


@pytest.mark.parametrize("factor", [4, 8])
def test_a_part_of_the_replicas_gives_the_figures_of_all_of_them(factor: float) -> None:
    whole, part = figures(large(1)), figures(large(factor))
    assert part.simulated < whole.simulated / factor * 1.5
    assert part.device_hours == pytest.approx(whole.device_hours, rel=0.05)
    assert part.attainment == pytest.approx(whole.attainment, abs=0.01)
    assert part.replicas_most == pytest.approx(whole.replicas_most, rel=0.08)
    assert part.times["end_to_end_s"]["p95"] == pytest.approx(whole.times["end_to_end_s"]["p95"], rel=0.05)


def test_every_request_counts_once_however_much_is_thinned() -> None:
    for run in (large(1), large(8)):
        assert run.ledger.offered == pytest.approx(sum(run.course.requests), rel=1e-3)


def test_a_part_of_calm_seconds_gives_the_figures_of_all_of_them() -> None:
    fields = LARGE | {"traffic": [{"points": [[0, 30], ["30m", 60]]}]}
    whole = figures(played(seconds=1800, **fields))
    stretch = [1.0] * 30 + [4.0] * 150
    part = figures(played(Thinning(1, LEAST, stretch), seconds=1800, **fields))
    assert part.simulated < 0.45 * whole.simulated
    assert part.device_hours == pytest.approx(whole.device_hours, rel=0.05)
    assert part.attainment == pytest.approx(whole.attainment, abs=0.01)
    assert part.times["end_to_end_s"]["p95"] == pytest.approx(whole.times["end_to_end_s"]["p95"], rel=0.05)


def test_the_same_seed_gives_the_same_figures_and_another_does_not() -> None:
    first, again, other = (
        figures(played(seconds=300, seed=seed, first_replicas=3, replicas={"min": 3, "max": 8})) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_a_service_at_rest_is_woken_by_the_first_request_and_rests_again() -> None:
    burst = [{"burst": {"at": 100, "lasts": 20, "rate": 2}}]
    course = played(seconds=600, traffic=burst, replicas={"min": 0, "max": 3, "idle_s": 60}).course
    running = [total / course.bin_s for total in course.replica_s]
    assert (running[5], running[12], running[-1]) == (0, pytest.approx(1), 0)


def test_what_waits_for_the_first_replica_waits_for_its_start() -> None:
    burst = [{"burst": {"at": 100, "lasts": 1, "rate": 5}}]
    run = played(seconds=400, traffic=burst, replicas={"min": 0, "max": 1}, start_s=40)
    assert run.ledger.quantiles()["wait_s"]["p50"] == pytest.approx(41, abs=1.5)
    assert run.ledger.attainment == 0


def test_a_flood_is_refused_without_simulating_all_of_it() -> None:
    run = played(seconds=120, replicas={"min": 1, "max": 1}, first_replicas=1, traffic=[{"constant": 2000}])
    found = figures(run)
    assert found.refused > 0.97
    assert found.simulated < 0.3 * found.requests
    assert run.ledger.offered == pytest.approx(found.requests, rel=0.01)


def a_day(**fields: Any) -> tuple[Any, Traffic]:
    service = a_service(replicas={"min": 1, "max": 100_000}, **fields)
    return service, Traffic(service.traffic, 86400)


def test_a_day_at_a_hundred_thousand_requests_a_second_is_thinned_to_what_is_allowed() -> None:
    service, traffic = a_day(traffic=[{"diurnal": {"low": 20_000, "high": 100_000}}])
    chosen = Thinning.choose(service, traffic, 500_000)
    blocks = traffic.rates.reshape(-1, 10).sum(axis=1)
    assert (blocks / chosen.factor / np.array(chosen.stretch)).sum() == pytest.approx(500_000, rel=0.3)
    assert chosen.sampled(31_250) >= 16
    assert chosen.coarser().factor == 2 * chosen.factor
    assert not chosen.is_exact


def test_nothing_is_thinned_of_a_small_forecast_and_no_time_is_left_out_around_a_change() -> None:
    service, traffic = a_day(traffic=[{"constant": 2}])
    assert Thinning.choose(service, traffic, 500_000).is_exact
    burst = {"burst": {"at": "12h", "lasts": 60, "rate": 50_000}}
    service, traffic = a_day(traffic=[{"constant": 50_000}, burst])
    stretch = Thinning.choose(service, traffic, 500_000).stretch
    around = stretch[(12 * 3600 - 100) // 10 : (12 * 3600 + 600) // 10]
    assert set(around) == {1.0}
    assert min(stretch[360:4200]) > 1
    assert set(stretch[:60]) == {1.0}, "at the beginning queues are empty"


def test_a_replica_that_is_on_its_way_out_is_paid_for_until_it_has_drained() -> None:
    run = played(seconds=900, replicas={"min": 1, "max": 4, "downscale_delay_s": 30}, first_replicas=4)
    assert run.course.most_replicas[0] == 4
    assert not math.isnan(run.ledger.attainment)
    assert run.course.replica_s[-1] / run.course.bin_s == pytest.approx(4, abs=1), "10/s of 4/s each, below 80%"


@pytest.mark.parametrize(
    ("device_hours", "attainment", "first", "is_small"),
    [(0.04, -0.009, 0.1, True), (-0.06, 0, 0, False), (0, 0.011, 0, False), (0, 0, 0.2, False), (0, 0, math.nan, True)],
)
def test_a_difference_is_small_within_what_is_stated(
    device_hours: float, attainment: float, first: float, is_small: bool
) -> None:
    assert Difference(True, device_hours, attainment, first).is_small is is_small
