"""Simulated queues beside the formulas that are known for them, and beside an exact recursion, request by request."""

from __future__ import annotations

import heapq
from functools import partial
from statistics import fmean, stdev

import pytest

from loadtests.planner.plan import Load
from loadtests.planner.replica import Replica, Request, Spec
from loadtests.planner.sample import Sample
from loadtests.planner.steady import Steady, SteadyRun
from tests.unit.loadtests.planner.plans import a_load, places

MEMORYLESS = {"exponential": 1.0}
HEAVY = {"mean": 1.0, "p95": 3.0}


def run(load: Load, per_second: float, *, replicas: int = 1, requests: int = 60_000, seed: int = 0) -> SteadyRun:
    steady = Steady(replicas, requests / per_second, warm_s=100, per_second=per_second, most=replicas)
    return SteadyRun(load, steady, seed=seed)


def erlang_c(servers: int, offered: float) -> float:
    """The share of requests that wait, in M/M/c (Erlang, 1917)."""
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = offered * blocked / (number + offered * blocked)
    return blocked / (1 - offered / servers * (1 - blocked))


def test_the_mean_wait_for_one_of_several_places_is_erlangs() -> None:
    servers, busy = 8, 0.7
    load = a_load(rates=places(servers), output=MEMORYLESS)
    waits = [run(load, busy * servers, requests=15_000, seed=seed).ledger.mean("wait_s") for seed in range(16)]
    exact = erlang_c(servers, busy * servers) / (servers * (1 - busy))
    error = stdev(waits) / len(waits) ** 0.5
    assert fmean(waits) == pytest.approx(exact, abs=3 * error)
    assert error < 0.05 * exact, "the test is as exact as it should be"


def test_every_wait_is_that_of_the_exact_recursion_for_several_servers() -> None:
    """Kiefer and Wolfowitz (1955): a request starts when it is there and the server that is free first is."""
    load = a_load(rates=places(4), output=HEAVY)
    taken: list[Request] = []

    class Watched(SteadyRun):
        def _request(self, at: float) -> Request:
            taken.append(super()._request(at))
            return taken[-1]

    Watched(load, Steady(1, 3000, per_second=3.4))
    free = [0.0] * 4
    for request in taken:
        starts = max(heapq.heappop(free), request.at)
        heapq.heappush(free, starts + request.output)
        assert request.started == pytest.approx(starts, abs=1e-6)
    assert len(taken) > 9000
    assert max(request.started - request.at for request in taken) > 1


@pytest.mark.parametrize("output", [1, HEAVY])
def test_rows_that_share_a_replica_take_as_long_whatever_their_lengths_distribution(output: object) -> None:
    """M/G/1 with processor sharing: the mean time is E[S] / (1 - busy), for every distribution (Kleinrock, 1976)."""
    load = a_load(rates=places(400, linear=False), output=output)
    whole = [run(load, 0.6, requests=30_000, seed=seed).ledger.mean("end_to_end_s") for seed in range(3)]
    assert fmean(whole) == pytest.approx(1 / (1 - 0.6), rel=0.05)


def test_one_place_with_equal_requests_has_the_wait_of_pollaczek_and_khinchine() -> None:
    waits = run(a_load(), 0.7).ledger.mean("wait_s")
    assert waits == pytest.approx(0.7 / 2 / (1 - 0.7), rel=0.05)


def test_prompts_are_read_one_after_the_other_even_where_there_are_places() -> None:
    rates = {**places(400), "prompt_units_per_second": 1.0}
    whole = run(a_load(rates=rates, prompt=1, output=0), 0.7).ledger.mean("end_to_end_s")
    assert whole == pytest.approx(1 + 0.7 / 2 / (1 - 0.7), rel=0.05)


def test_the_less_busy_of_two_random_replicas_gives_the_mean_field_limit() -> None:
    """Mitzenmacher (2001): with many M/M/1 servers the mean time is the sum of busy^(2^i - 2)."""
    busy, many = 0.8, 100
    whole = run(a_load(output=MEMORYLESS), busy * many, replicas=many, requests=100_000).ledger.mean("end_to_end_s")
    assert whole == pytest.approx(sum(busy ** (2**i - 2) for i in range(1, 12)), rel=0.04)


def test_a_few_of_many_replicas_say_nearly_what_all_of_them_would() -> None:
    load = a_load(rates=places(4), output=MEMORYLESS)
    all_of_them, few = (
        SteadyRun(load, Steady(64, 300, warm_s=20, per_second=0.9 * 4 * 64, most=most)) for most in (64, 16)
    )
    assert few.ledger.simulated < all_of_them.ledger.simulated / 3
    assert few.answered_per_second == pytest.approx(all_of_them.answered_per_second, rel=0.03)
    assert few.ledger.mean("end_to_end_s") == pytest.approx(all_of_them.ledger.mean("end_to_end_s"), rel=0.05)


@pytest.mark.parametrize(("clients", "expected"), [(1, 1.0), (2, 1.5), (3, 1.75), (8, 2.0)])
def test_clients_that_wait_for_their_answers_get_the_rate_of_so_many_rows(clients: int, expected: float) -> None:
    load = a_load(rates={"units_per_second": {1: 1, 2: 1.5, 4: 2}}, output=MEMORYLESS)
    closed = SteadyRun(load, Steady(1, 10_000, warm_s=50, clients=clients))
    assert closed.answered_per_second == pytest.approx(expected, rel=0.03)


def ends(load: Load, *requests: tuple[float, float, float]) -> dict[float, tuple[float, float]]:
    """Requests as (when, prompt, output) on one replica; by when, when their first unit came and when they ended."""
    found: dict[float, tuple[float, float]] = {}
    spec = Spec.of(load)
    sample = Sample(
        spec, ended=lambda request, now: found.update({request.at: (request.first, now)}), refused=lambda *_: None
    )
    sample.resize(1)
    for at, prompt, output in requests:
        sample.offer(Request(at, prompt, output, spec.speeds.work_of(prompt, output)))
    sample.drain()
    return found


def test_rows_go_as_fast_as_was_measured_for_so_many_of_them() -> None:
    load = a_load(rates={"units_per_second": {1: 10, 2: 15}}, output=10)
    # Alone for half a second: 5 units. Then 7.5 units a second each, until the first ends; then the second alone.
    first_s = 0.5 + 5 / 7.5
    assert ends(load, (0, 0, 10), (0.5, 0, 10)) == {
        0: (pytest.approx(0.1), pytest.approx(first_s)),
        0.5: (pytest.approx(0.5 + 1 / 7.5), pytest.approx(first_s + 5 / 10)),
    }


@pytest.mark.parametrize(
    ("piece", "prompt_ends", "row_ends"),
    [
        (None, 1.5, 2.5),  # the row stands still for the second that the prompt takes
        (10, 2.5, 2.5),  # a step: 0.1 s of the prompt and 0.1 s of the row, so both go at half of their speed
    ],
)
def test_a_prompt_slows_the_rows_beside_it(piece: float | None, prompt_ends: float, row_ends: float) -> None:
    rates = {"units_per_second": {1: 10, 2: 20}, "prompt_units_per_second": 100, "prompt_piece": piece}
    found = ends(a_load(rates=rates, prompt=1), (0, 0, 15), (0.5, 100, 1))
    assert found[0.5][1] == pytest.approx(prompt_ends)
    assert found[0][1] == pytest.approx(row_ends)


def test_a_queue_is_bounded_by_the_longest_wait_that_is_allowed_and_the_rest_is_refused() -> None:
    flood = run(a_load(max_wait_s=5), 3.0, requests=3000)
    assert flood.ledger.refused_share == pytest.approx(2 / 3, abs=0.03)
    assert flood.ledger.quantiles()["wait_s"]["p99"] < 7
    assert flood.answered_per_second == pytest.approx(1.0, rel=0.02)


def test_a_deadline_refuses_what_would_come_too_late_though_it_may_wait() -> None:
    patient, urgent = (run(a_load(deadline_s=deadline), 3.0, requests=3000) for deadline in (None, 4.0))
    assert patient.ledger.refused_share == 0
    assert urgent.ledger.quantiles()["end_to_end_s"]["p99"] < 5


def test_a_request_goes_to_the_replica_that_has_less() -> None:
    sample = Sample(Spec.of(a_load()), ended=lambda *_: None, refused=lambda *_: None)
    sample.resize(2)
    for number in range(10):
        sample.offer(Request(number / 1000, 0, 1, 1))
    assert [replica.ongoing for replica in sample.running] == [5, 5]


def test_before_the_first_replica_requests_wait_outside_and_replicas_that_go_end_what_they_have() -> None:
    ended: list[float] = []
    sample = Sample(Spec.of(a_load()), ended=lambda request, now: ended.append(now), refused=lambda *_: None)
    sample.offer(Request(0, 0, 1, 1))
    sample.run(10)
    assert (sample.ongoing, ended) == (1, [])
    sample.resize(1)
    sample.resize(0)
    sample.drain()
    assert ended == [11]


def test_a_report_says_what_the_real_meter_makes_of_the_same_load() -> None:
    replica = Replica(Spec.of(a_load(rates=places(2))), 0.0, partial(next, iter([0.0, 10.0])))
    for _ in range(4):
        replica.take(Request(0, 0, 100, 50), 0.0)
    replica.report(0.0, 1)
    replica.report(10.0, 1)
    said = replica.said
    assert said is not None
    assert (said.rows, said.is_paced) == (4, 1)
    assert said.busy == pytest.approx(1, abs=0.05)
    assert said.wait_s == pytest.approx(100 + 50, abs=1), "for a place, and for those that wait before"
