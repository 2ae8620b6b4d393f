"""Our policy on recorded arrivals, in simulated time: what it may cost, and how steady it is. The same every time."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from loadtests import autoscaling_arrivals as recorded
from loadtests.autoscaling import Figures, needed, simulate, turns
from loadtests.autoscaling_sim import Run, Service, Simulation

SERVICE = Service()
OURS, RAYS = "predicted wait", "ongoing requests, quick"


@cache
def ours(name: str) -> Figures:
    return simulate(recorded.read(name), OURS, SERVICE)[0]


def test_the_recorded_arrivals_are_those_that_their_command_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {name: recorded.read(name) for name in recorded.SHAPES}
    monkeypatch.setattr(recorded, "FOLDER", tmp_path)
    recorded.write()
    assert {name: recorded.read(name) for name in recorded.SHAPES} == kept


@pytest.mark.parametrize(
    ("trace", "overshoot", "most_turns", "cost", "late"),
    [
        pytest.param("steady", 1, 1, 2.4, 0.02, marks=pytest.mark.slow),
        pytest.param("ramp", 1, 1, 2.1, 0.02, marks=pytest.mark.slow),
        ("burst", 0, 1, 4.2, 0.5),  # it is over before a replica could start
        pytest.param("on-off", 0, 1, 4.5, 0.3, marks=pytest.mark.slow),  # as above, for the first of six
    ],
)
def test_recorded_arrivals_are_followed_without_overshoot_or_flapping_at_a_bounded_cost(
    trace: str, overshoot: int, most_turns: int, cost: float, late: float
) -> None:
    found = ours(trace)
    assert found.overshoot <= overshoot
    assert found.turns <= most_turns
    assert found.cost <= cost, "replica-seconds, as a multiple of what the work alone takes"
    assert found.late <= late
    assert found.ends_at == 0, "a service that nobody asks rests"


def test_a_burst_costs_less_than_with_rays_count_of_requests_and_is_answered_as_soon() -> None:
    rays = simulate(recorded.read("burst"), RAYS, SERVICE)[0]
    assert ours("burst").cost < 0.8 * rays.cost
    assert ours("burst").overshoot < rays.overshoot
    assert ours("burst").late <= 1.05 * rays.late


def test_the_simulation_is_the_same_every_time() -> None:
    arrivals = recorded.read("burst")[:120]
    assert simulate(arrivals, OURS, SERVICE) == simulate(arrivals, OURS, SERVICE)


def fixed(arrivals: list[int], replicas: int, *, rest_s: int = 60) -> Run:
    service = Service(start_s=0, least=replicas)
    return Simulation(service, lambda _: replicas).play(arrivals, rest_s=rest_s)


def test_simulated_replicas_serve_what_they_can_and_queue_the_rest() -> None:
    enough = fixed([3] * 120, 1)
    assert len(enough.waits) == 360
    assert max(enough.waits) < 1
    over = fixed([8] * 60, 1, rest_s=120)
    assert len(over.waits) == 480
    assert max(over.waits) == pytest.approx(60, rel=0.1), "twice of what it can do, for a minute"
    assert over.replica_s == pytest.approx(180, abs=0.2)


def test_a_simulated_wait_is_bounded_as_the_services_own_is() -> None:
    flood = fixed([20] * 60, 1, rest_s=120)
    assert flood.refused > 0
    assert len(flood.waits) + flood.refused == 1200
    assert max(flood.waits) < 70


def test_needed_and_turns_count_what_they_say() -> None:
    assert needed([4] * 60 + [0] * 60, SERVICE) == 1
    assert needed([5] * 60 + [0] * 60, SERVICE) == 2
    assert turns([0, 1, 1, 2, 1, 1, 2, 0]) == 3
