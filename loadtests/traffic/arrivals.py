"""Owns when requests come in an open loop: endless sequences of due times, which no answer holds up.

One user's sequence has a mean of `rate` requests a second. Those of many users together are again of the same kind (a
superposition of Poisson processes is one), so that Locust's users can be added, taken away and spread over workers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import Literal, get_args

# Due times in seconds of the test's clock, none before the given one.
Arrivals = Callable[[Random, float, float], Iterator[float]]


def poisson(rng: Random, rate: float, since: float) -> Iterator[float]:
    """Each request comes whenever it likes, whatever the others do: the gaps are exponential."""
    now = since
    while True:
        now += rng.expovariate(rate)
        yield now


def bursts(rng: Random, rate: float, since: float, *, mean_size: float) -> Iterator[float]:
    """Requests come in groups at once, as when a job or a page sends several: a compound Poisson process.

    Groups come as Poisson has it; their sizes are geometric with the mean `mean_size`, from 1 on. The counts in any
    stretch of time have a variance of `2 * mean_size - 1` times their mean.
    """
    for now in poisson(rng, rate / mean_size, since):
        for _ in range(_geometric(rng, mean_size)):
            yield now


def diurnal(rng: Random, rate: float, since: float, *, day_s: float) -> Iterator[float]:
    """A day's rise and fall in `day_s` seconds, the same for all users: Poisson arrivals, thinned.

    Lewis and Shedler, Simulation of nonhomogeneous Poisson processes by thinning, 1979.
    """
    for now in poisson(rng, rate * PEAK, since):
        if rng.random() * PEAK < day_curve(now / day_s):
            yield now


def day_curve(day: float) -> float:
    """The rate at a time of day (0 and 1 are midnight), as a multiple of the day's mean.

    A trough at four in the night, with a tenth of what the broad peak at four in the afternoon has.
    """
    turn = 2 * math.pi * (day - 4 / 24)
    return 1 - 0.7 * math.cos(turn) - 0.15 * math.cos(2 * turn)


PEAK = 1.55  # at four in the afternoon

Kind = Literal["poisson", "bursts", "diurnal"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def arrivals_of(kind: str, *, burst_size: float, day_s: float) -> Arrivals:
    """Raises KeyError for another kind than KINDS."""
    known: dict[str, Arrivals] = {
        "poisson": poisson,
        "bursts": partial(bursts, mean_size=burst_size),
        "diurnal": partial(diurnal, day_s=day_s),
    }
    return known[kind]


def _geometric(rng: Random, mean: float) -> int:
    """From 1 on. By inversion: one draw."""
    if mean == 1:
        return 1
    return 1 + int(math.log(1 - rng.random()) / math.log(1 - 1 / mean))
