"""Owns a load of constant rate on a fixed number of replicas: what `--for-rate` searches with, and validation compares.

Of more than `most` replicas so many are simulated, with their part of the requests. Where a request goes to the less
busy of two random replicas, what one of many goes through depends on the load of each, and not on how many there are
(Mitzenmacher, 2001; Vvedenskaya et al., 1996).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Literal

import numpy as np

from loadtests.planner.outcome import UNCOUNTED, Ledger
from loadtests.planner.plan import Load, Objectives
from loadtests.planner.replica import Request, Spec
from loadtests.planner.sample import Sample

RETRY_S = 1.0  # after which a client of a closed loop that was refused comes again
CHUNK = 1024
MOST = 16
Arrivals = Literal["poisson", "even"]
Recorded = tuple[float, float, float]  # a request: when in seconds, prompt and output in units


@dataclass(frozen=True, slots=True)
class Steady:
    """`per_second` requests, or so many `clients` of which each sends its next request when it has an answer.

    Or the recorded `requests`, in the order of time, every one of which is simulated. What comes in the first `warm_s`
    counts for nothing.
    """

    replicas: int
    seconds: float
    warm_s: float = 0.0
    per_second: float = 0.0
    clients: int = 0
    requests: Sequence[Recorded] = ()
    arrivals: Arrivals = "poisson"
    most: int = MOST

    @property
    def end_s(self) -> float:
        return self.warm_s + self.seconds

    @property
    def sampled(self) -> int:
        return self.replicas if self.requests else min(self.replicas, self.most)


@dataclass(slots=True)
class SteadyRun:
    """One such load, simulated. Throughput counts what ended between the end of the warm-up and the last arrival."""

    load: Load
    steady: Steady
    objectives: Objectives | None = None
    seed: int = 0
    ledger: Ledger = field(init=False)
    _spec: Spec = field(init=False)
    _sample: Sample = field(init=False)
    _ended: int = 0
    _coming: list[float] = field(default_factory=list[float])  # of a closed loop: when the clients send next
    _lengths: Iterator[tuple[float, float]] = field(init=False)
    _rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        recorded = self.steady.requests
        self._lengths = ((prompt, output) for _, prompt, output in recorded)
        if not recorded:
            self._lengths = self.load.lengths(self._rng)
        self._spec = Spec.of(self.load)
        self.ledger = Ledger(self.objectives, self._spec.overhead_s, bins=1)
        self._sample = Sample(self._spec, ended=self._end, refused=self._refuse, seed=self.seed)
        self._sample.resize(self.steady.sampled)
        for at in self._arrivals():
            self._sample.offer(self._request(at))
        self._sample.drain()

    @property
    def answered_per_second(self) -> float:
        return self._ended / self.steady.seconds * self.steady.replicas / self.steady.sampled

    def _arrivals(self) -> Iterator[float]:
        if self.steady.requests:
            return (at for at, _, _ in self.steady.requests if at <= self.steady.end_s)
        return self._clients() if self.steady.clients else self._open()

    def _open(self) -> Iterator[float]:
        at, rate = 0.0, self.steady.per_second * self.steady.sampled / self.steady.replicas
        while True:
            gaps = self._rng.exponential(1 / rate, CHUNK) if self.steady.arrivals == "poisson" else [1 / rate] * CHUNK
            for gap in gaps:
                at += float(gap)
                if at > self.steady.end_s:
                    return
                yield at

    def _clients(self) -> Iterator[float]:
        """Clients begin one after the other, within what a request takes, so that their answers do not end together."""
        clients = self.steady.clients
        for number in range(clients):
            heappush(self._coming, number * self.load.alone_s / clients)
        while True:
            coming = self._coming[0] if self._coming else float("inf")
            if self._sample.next_due() < coming:
                self._sample.step()
            elif coming > self.steady.end_s:
                return
            else:
                yield heappop(self._coming)

    def _request(self, at: float) -> Request:
        prompt, output = next(self._lengths)
        counted = 0 if at >= self.steady.warm_s else UNCOUNTED
        return Request(at, prompt, output, self._spec.speeds.work_of(prompt, output), bin=counted)

    def _end(self, request: Request, now: float) -> None:
        self.ledger.ended(request, now)
        self._ended += self.steady.warm_s <= now <= self.steady.end_s
        self._come_again(now + self._spec.overhead_s)

    def _refuse(self, request: Request, now: float) -> None:
        self.ledger.refuse(request, now)
        self._come_again(now + RETRY_S)

    def _come_again(self, at: float) -> None:
        if self.steady.clients:
            heappush(self._coming, at)
