"""Owns what became of the requests: counts by when they came, and the distributions of their times."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from loadtests.planner.plan import Objectives
from loadtests.planner.replica import Request

TIMES = ("wait_s", "time_to_first_s", "end_to_end_s")
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
UNCOUNTED = -1  # the bin of a request that only warms up


@dataclass(slots=True)
class Ledger:
    """A request counts by its weight, in the bin of its arrival. `objectives` of None are kept by all."""

    objectives: Objectives | None
    overhead_s: float
    bins: int
    answered: list[float] = field(init=False)
    good: list[float] = field(init=False)
    refused: list[float] = field(init=False)
    simulated: int = 0
    _times: Mapping[str, array[float]] = field(init=False)
    _weights: array[float] = field(init=False)
    _limits: tuple[float, float, float] = field(init=False)

    def __post_init__(self) -> None:
        self.answered, self.good, self.refused = ([0.0] * self.bins for _ in range(3))
        self._times = {name: array("d") for name in TIMES}
        self._weights = array("d")
        wanted = [None if self.objectives is None else getattr(self.objectives, name) for name in TIMES]
        wait_s, first_s, end_s = (math.inf if each is None else each for each in wanted)
        self._limits = wait_s, first_s, end_s

    def ended(self, request: Request, now: float) -> None:
        self.simulated += 1
        if request.bin == UNCOUNTED:
            return
        wait_s = request.started - request.at
        first_s = request.first - request.at + self.overhead_s
        end_s = now - request.at + self.overhead_s
        self.answered[request.bin] += request.weight
        if wait_s <= self._limits[0] and first_s <= self._limits[1] and end_s <= self._limits[2]:
            self.good[request.bin] += request.weight
        for times, value in zip(self._times.values(), (wait_s, first_s, end_s), strict=True):
            times.append(value)
        self._weights.append(request.weight)

    def refuse(self, request: Request, _now: float) -> None:
        self.simulated += 1
        if request.bin != UNCOUNTED:
            self.refused[request.bin] += request.weight

    def refuse_unseen(self, at: int, requests: float) -> None:
        """So many are refused that not all of them need be simulated."""
        self.refused[at] += requests

    @property
    def offered(self) -> float:
        return sum(self.answered) + sum(self.refused)

    @property
    def attainment(self) -> float:
        """Of all requests; nan of none."""
        return ratio(sum(self.good), self.offered)

    @property
    def refused_share(self) -> float:
        return ratio(sum(self.refused), self.offered)

    def mean(self, name: str) -> float:
        return float(np.average(np.asarray(self._times[name]), weights=np.asarray(self._weights)))

    def quantiles(self) -> dict[str, dict[str, float]]:
        """Seconds, of what was answered."""
        weights = np.asarray(self._weights)
        return {name: _quantiles(np.asarray(times), weights) for name, times in self._times.items()}


def _quantiles(values: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    if not len(values):
        return dict.fromkeys(QUANTILES, math.nan)
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    at = np.searchsorted(below, [q * below[-1] for q in QUANTILES.values()])
    return dict(zip(QUANTILES, values[order][np.minimum(at, len(values) - 1)].tolist(), strict=True))


def ratio(over: float, under: float) -> float:
    return over / under if under else math.nan


def shares(over: Sequence[float], *others: Sequence[float]) -> list[float]:
    """Bin by bin, the first over the sum of the others."""
    return [ratio(each, sum(rest)) for each, *rest in zip(over, *others, strict=True)]
