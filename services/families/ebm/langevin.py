"""Owns the arithmetic of a chain: how far a sweep goes, and how much noise it adds. Never sees a network.

A sweep is a step of unadjusted Langevin dynamics (Roberts & Tweedie 1996), with r(x) = level^2 dE/dx:

    x' = x - rate * r(x) + noise * eps,  eps being unit noise

With noise = level * sqrt(2 * rate) that is Langevin's x' = x - (h / 2) dE/dx + sqrt(h) eps of h = 2 * rate * level^2.
Here it is level * sqrt(1 - (1 - rate)^2), which agrees to first order in the rate and keeps a Gaussian of deviation
`level` exactly. Of another Gaussian, of variance v, the chain's variance is v (2 - rate) / (2 - rate * level^2 / v):
the discretisation error, which vanishes with the rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sweep:
    """One line of a chain: the share of the residual that is taken off, and the deviation of the noise added."""

    rate: float
    noise: float


@dataclass(frozen=True, slots=True)
class Chain:
    """Sweeps from a noise level on; `start` is the deviation of the noise in the first sample."""

    start: float
    sweeps: tuple[Sweep, ...]


def held(rate: float, level: float) -> Sweep:
    """A sweep at one noise level."""
    return between(rate, level, level)


def between(rate: float, level: float, after: float) -> Sweep:
    """A sweep from a noise level to the next, which takes noise along as consistent annealed sampling does.

    noise^2 = after^2 - (1 - rate)^2 level^2 (Jolicoeur-Martineau 2021, arXiv:2009.05475). Where levels fall too
    fast for the rate, the rate is as high as needs be, and no noise is added.
    """
    rate = max(rate, 1 - after / level)
    return Sweep(rate, math.sqrt(max(0.0, after**2 - ((1 - rate) * level) ** 2)))


def annealed(count: int, *, rate: float, high: float, low: float, taken: int | None = None) -> Chain:
    """The last `taken` (or all) of `count` sweeps; noise falls geometrically from `high` to `low` (arXiv:1907.05600).

    The last sweep goes the whole way to the clean estimate, without noise (Tweedie's formula).
    """
    fall = (low / high) ** (1 / max(1, count - 1))
    levels = [high * fall**i for i in range(count)]
    sweeps = (*(between(rate, levels[i], levels[i + 1]) for i in range(count - 1)), Sweep(1.0, 0.0))
    first = 0 if taken is None else count - taken
    return Chain(levels[first], sweeps[first:])
