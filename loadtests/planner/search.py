"""Owns how many replicas a constant rate needs, so that what is promised is kept: by bisection over simulations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from loadtests.planner.plan import Load, Objectives
from loadtests.planner.steady import MOST, Steady, SteadyRun

REQUESTS = 30_000  # that are simulated for each number of replicas
WARM = 5.0  # times of what a request takes
BUSIEST = 0.95  # of what replicas can do: beyond, queues grow for hours, and no rate is measured as exactly
EXACT = 0.005  # of the number found
TIMES_LOAD = (1.0, 1.1, 1.25, 1.5, 2.0, 4.0, 16.0, 64.0)
Tell = Callable[[int], None]


class Unreachable(Exception):
    """No number of replicas keeps the objectives: a request alone takes too long."""


@dataclass(frozen=True, slots=True)
class Found:
    per_second: float
    replicas: int
    attainment: float
    refused: float
    time_to_first_p95_s: float
    end_to_end_p95_s: float
    busy: float  # of what the replicas can do


def replicas_for(load: Load, objectives: Objectives, per_second: float, tell: Tell = lambda _: None) -> Found:
    """The fewest replicas, at most `BUSIEST`, with the attainment that is wanted. Raises Unreachable."""
    tried: dict[int, Found] = {}

    def is_enough(replicas: int) -> bool:
        if replicas not in tried:
            tell(replicas)
            tried[replicas] = _simulated(load, objectives, per_second, replicas)
        return tried[replicas].attainment >= objectives.attainment

    least = max(1, math.ceil(per_second / load.capacity / BUSIEST))
    sizes = [math.ceil(least * times) for times in TIMES_LOAD]
    if not is_enough(sizes[-1]):
        best = tried[sizes[-1]]
        raise Unreachable(
            f"with {best.replicas} replicas, {best.busy:.1%} busy, {best.attainment:.2%} of the requests keep the "
            f"objectives; {objectives.attainment:.2%} should. p95 of the time to first: {best.time_to_first_p95_s:.3g} "
            f"s, of whole answers: {best.end_to_end_p95_s:.3g} s."
        )
    enough = next(size for size in sizes if is_enough(size))
    short = max((size for size in sizes if size < enough), default=least - 1)
    while enough - short > max(1, EXACT * enough):
        middle = (enough + short) // 2
        short, enough = (short, middle) if is_enough(middle) else (middle, enough)
    return tried[enough]


def _simulated(load: Load, objectives: Objectives, per_second: float, replicas: int) -> Found:
    seconds = REQUESTS / per_second * max(1.0, replicas / MOST)
    steady = Steady(replicas, seconds, warm_s=WARM * load.alone_s, per_second=per_second)
    run = SteadyRun(load, steady, objectives)
    times = run.ledger.quantiles()
    return Found(
        per_second,
        replicas,
        run.ledger.attainment,
        run.ledger.refused_share,
        times["time_to_first_s"]["p95"],
        times["end_to_end_s"]["p95"],
        per_second / replicas / load.capacity,
    )
