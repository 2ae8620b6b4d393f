"""Owns what a plan comes to: figures of each service, how exact they are, and what a fixed fleet would cost."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from loadtests.planner.fleet import Fleet
from loadtests.planner.outcome import ratio, shares
from loadtests.planner.plan import Service
from loadtests.planner.search import Found, Unreachable, replicas_for
from loadtests.planner.simulation import Simulation
from loadtests.planner.thinning import Thinning
from loadtests.planner.traffic import Traffic

Tell = Callable[[str, int], None]  # what is being done, and seconds of the forecast that are through

# What thinning twice as much may change; more is said in the report.
DEVICE_HOURS_ERROR = 0.05
ATTAINMENT_ERROR = 0.01
TIME_ERROR = 0.15


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one simulated forecast. `kept` is the share of the report's bins in which the objectives were kept."""

    requests: float
    replicas_mean: float
    replicas_most: int
    devices_most: float
    replica_hours: float
    device_hours: float
    cost: float | None
    attainment: float
    kept: float
    refused: float
    times: dict[str, dict[str, float]]
    simulated: int


@dataclass(frozen=True, slots=True)
class Fixed:
    """Replicas that need no scaling: as many as the busiest minute takes, all the time."""

    found: Found
    device_hours: float
    cost: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """Between the figures and those that come of thinning twice as much, or of other draws where nothing was thinned.

    Relative, but for shares.
    """

    is_of_thinning: bool
    device_hours: float
    attainment: float
    time_to_first_p95: float

    @property
    def is_small(self) -> bool:
        return (
            abs(self.device_hours) <= DEVICE_HOURS_ERROR
            and abs(self.attainment) <= ATTAINMENT_ERROR
            and not abs(self.time_to_first_p95) > TIME_ERROR  # nan: nothing was answered in both
        )


@dataclass(frozen=True, slots=True)
class Result:
    service: Service
    traffic: Traffic
    thinning: Thinning
    simulation: Simulation
    figures: Figures
    difference: Difference
    fixed: Fixed | str  # why there is none
    seconds: float


def solve(service: Service, seconds: int, budget: int, tell: Tell, *, seed: int = 0) -> Result:
    """Simulate a service's forecast twice, and a fixed fleet."""
    began = time.perf_counter()
    traffic = Traffic(service.traffic, seconds)
    thinning = Thinning.choose(service, traffic, budget)
    run = Simulation(service, traffic, thinning, seed, lambda done: tell("simulating", done)).play()
    other_seed = seed + 1 if thinning.is_exact else seed
    other = Simulation(
        service, traffic, thinning.coarser(), other_seed, lambda done: tell("once more, coarser", done)
    ).play()
    ours, theirs = figures(run), figures(other)
    return Result(
        service=service,
        traffic=traffic,
        thinning=thinning,
        simulation=run,
        figures=ours,
        difference=_difference(ours, theirs, is_of_thinning=not thinning.is_exact),
        fixed=_fixed(service, traffic, tell),
        seconds=time.perf_counter() - began,
    )


def figures(run: Simulation) -> Figures:
    course, ledger, service = run.course, run.ledger, run.service
    device_hours = sum(course.device_s) / 3600
    attained = [share for share in shares(ledger.good, ledger.answered, ledger.refused) if not math.isnan(share)]
    return Figures(
        requests=sum(course.requests),
        replicas_mean=sum(course.replica_s) / run.traffic.seconds,
        replicas_most=max(course.most_replicas),
        devices_most=max(course.most_devices),
        replica_hours=sum(course.replica_s) / 3600,
        device_hours=device_hours,
        cost=_cost(service, device_hours),
        attainment=ledger.attainment,
        kept=ratio(sum(share >= service.objectives.attainment for share in attained), len(attained)),
        refused=ledger.refused_share,
        times=ledger.quantiles(),
        simulated=ledger.simulated,
    )


def _difference(ours: Figures, theirs: Figures, *, is_of_thinning: bool) -> Difference:
    first, other_first = (each.times["time_to_first_s"]["p95"] for each in (ours, theirs))
    return Difference(
        is_of_thinning,
        ratio(theirs.device_hours, ours.device_hours) - 1,
        theirs.attainment - ours.attainment,
        ratio(other_first, first) - 1,
    )


def _fixed(service: Service, traffic: Traffic, tell: Tell) -> Fixed | str:
    peak = traffic.peak()
    if peak <= 0:
        return "nothing arrives"
    try:
        found = replicas_for(service, service.objectives, peak, lambda number: tell(f"a fixed fleet: {number}", 0))
    except Unreachable as error:
        return str(error)
    device_hours = Fleet(service, 0.0, found.replicas).devices * traffic.seconds / 3600
    return Fixed(found, device_hours, _cost(service, device_hours))


def _cost(service: Service, device_hours: float) -> float | None:
    price = service.price_per_device_hour
    return None if price is None else price * device_hours
