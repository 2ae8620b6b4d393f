"""Owns how much of a forecast is simulated, so that 10^5 requests a second for a day take no longer than it is worth.

Two things are thinned, and only as far as the events that are allowed require.

Replicas: of R that run, about R / `factor` are simulated, each with its own part of the requests. Where a request goes
to the less busy of two random replicas, what one of many goes through depends on the load of each and not on how many
there are (the mean-field limit: Mitzenmacher, 2001; Vvedenskaya et al., 1996). All replicas, nodes and the policy's
decisions are followed one by one; the policy sees totals.

Time: while the forecast is calm, a block of it is simulated for a part of its seconds. Requests take seconds and a
calm forecast changes over minutes, so that queues are in balance with the rate at every moment of it, and what is left
out is like what is not (averaging over the fast scale: Gear and Kevrekidis, 2003). Nothing is left out around a change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtests.planner.plan import Service
from loadtests.planner.traffic import Traffic

BUDGET = 1_000_000  # requests; each is about two events
BLOCK_S = 10
LEAST_AT_PEAK = 16  # replicas that are simulated at least, of as many or more
LEAST = 8
SATURATED = 4.0  # times what replicas can do; what is offered beyond is refused, and not simulated
BEFORE_S, AFTER_S = 600, 120  # a block is calm if the rate keeps within these around it
CALM = 1.15  # from the lowest to the highest of them
BALANCE_S = 600.0  # seconds of the forecast that queues may need to find their balance
RELAX = 5.0  # the same of the queue, in times of what a request takes


@dataclass(frozen=True, slots=True)
class Thinning:
    """`stretch` has an entry for each block: how many of its seconds one that is simulated stands for."""

    factor: float
    least: int
    stretch: Sequence[float]

    @property
    def is_exact(self) -> bool:
        return self.factor == 1 and max(self.stretch) == 1

    def sampled(self, running: int) -> int:
        return min(running, max(self.least, round(running / self.factor)))

    def coarser(self) -> Thinning:
        """Half of all that is thinned."""
        stretch = [2 * each if each > 1 else each for each in self.stretch]
        return Thinning(2 * self.factor, max(1, self.least // 2), stretch)

    @classmethod
    def choose(cls, service: Service, traffic: Traffic, budget: int = BUDGET) -> Thinning:
        most = service.replicas.max * service.capacity
        rates = np.minimum(traffic.rates, SATURATED * most)
        peak = min(service.replicas.max, traffic.peak() / service.capacity / service.replicas.target_busy)
        factor = float(np.clip(rates.sum() / budget, 1, max(1.0, peak / LEAST_AT_PEAK)))
        blocks = np.add.reduceat(rates, np.arange(0, len(rates), BLOCK_S)) / factor
        calm = _calm(blocks)
        left = budget - blocks[~calm].sum()
        longest = max(1.0, BALANCE_S / (RELAX * service.alone_s))
        wanted = blocks[calm].sum() / left if left > 0 else longest
        stretch = float(np.clip(wanted, 1, longest))
        return cls(factor, LEAST, np.where(calm, stretch, 1.0).tolist())


def _calm(blocks: np.ndarray) -> np.ndarray:
    """The beginning is not: queues are empty, and policies know nothing."""
    before, after = BEFORE_S // BLOCK_S, AFTER_S // BLOCK_S
    around = np.pad(blocks, (before, after), constant_values=(-1.0, blocks[-1]))
    windows = np.lib.stride_tricks.sliding_window_view(around, before + 1 + after)
    lowest, highest = windows.min(axis=1), windows.max(axis=1)
    return (lowest >= 0) & (highest <= CALM * lowest)
