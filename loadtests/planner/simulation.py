"""Owns the course of a service over a forecast: arrivals, queues, decisions and replicas, in the order of events.

Two clocks run: that of the forecast, by which the policy decides and replicas and nodes start, and that of the queues,
which is behind where time is thinned (`thinning.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from loadtests.planner.autoscaler import Autoscaler
from loadtests.planner.fleet import Fleet
from loadtests.planner.outcome import Ledger
from loadtests.planner.plan import Service
from loadtests.planner.replica import Request, Spec
from loadtests.planner.sample import Sample
from loadtests.planner.thinning import BLOCK_S, SATURATED, Thinning
from loadtests.planner.traffic import Traffic

BINS = 288  # of a report: five minutes each, of a day
SHORTEST_BIN_S = 10
Tell = Callable[[int], None]  # seconds of the forecast that are done


@dataclass(slots=True)
class Course:
    """What a service had, bin by bin: sums over seconds, but for the most."""

    bin_s: int
    requests: list[float]
    replica_s: list[float]
    device_s: list[float]
    most_replicas: list[int]
    most_devices: list[float]


@dataclass(slots=True)
class Simulation:
    service: Service
    traffic: Traffic
    thinning: Thinning
    seed: int = 0
    tell: Tell = lambda _: None
    course: Course = field(init=False)
    ledger: Ledger = field(init=False)
    _rng: np.random.Generator = field(init=False)
    _counts: np.ndarray = field(init=False)
    _lengths: Iterator[tuple[float, float]] = field(init=False)
    _spec: Spec = field(init=False)
    _sample: Sample = field(init=False)
    _fleet: Fleet = field(init=False)
    _autoscaler: Autoscaler = field(init=False)
    _now: int = 0
    _pending: float = 0.0  # requests that have come and are less than one of the sample

    def __post_init__(self) -> None:
        service, seconds = self.service, self.traffic.seconds
        bin_s = max(SHORTEST_BIN_S, math.ceil(seconds / BINS / BLOCK_S) * BLOCK_S)
        bins = math.ceil(seconds / bin_s)
        floats = [[0.0] * bins for _ in range(4)]
        self.course = Course(bin_s, floats[0], floats[1], floats[2], [0] * bins, floats[3])
        self._rng = np.random.default_rng(self.seed)
        self._counts = self.traffic.draw(self._rng)
        self._lengths = service.lengths(self._rng)
        self._spec = Spec.of(service)
        self.ledger = Ledger(service.objectives, self._spec.overhead_s, bins)
        self._sample = Sample(
            self._spec,
            ended=self.ledger.ended,
            refused=self.ledger.refuse,
            seed=self.seed,
            clock=lambda: float(self._now),
        )
        first = service.first_replicas
        if first is None:
            first = math.ceil(self.traffic.rates[0] / service.capacity / service.replicas.target_busy)
        first = min(max(first, service.replicas.min), service.replicas.max)
        self._fleet = Fleet(service, service.alone_s, first)
        self._autoscaler = Autoscaler(service.replicas, first)

    def play(self) -> Simulation:
        while self._now < self.traffic.seconds:
            stretch = self.thinning.stretch[self._now // BLOCK_S]
            step = 1 if stretch == 1 else min(BLOCK_S, self.traffic.seconds - self._now)
            self._play(step, stretch)
            self.tell(step)
        self._sample.drain()
        return self

    def _play(self, step: int, stretch: float) -> None:
        """So many seconds of the forecast, and then a decision."""
        fleet, sample = self._fleet, self._sample
        fleet.settle(self._now)
        sample.resize(self.thinning.sampled(fleet.running))
        each = max(1, fleet.running) / max(1, len(sample.running))  # replicas that a simulated one stands for
        end = sample.now + step / stretch
        for request in self._arrivals(step, stretch, each):
            sample.offer(request)
        sample.run(end)
        self._count(step)
        self._now += step
        sample.report(stretch)
        loads = [replica.said for replica in sample.running]
        fleet.follow(self._autoscaler.decide(self._now, fleet.running, loads, sample.ongoing * each), self._now)

    def _arrivals(self, step: int, stretch: float, each: float) -> Iterator[Request]:
        """The sample's part of what comes, at random moments of its time."""
        at_bin = self._now // self.course.bin_s
        weight = each * stretch
        seen = float(self._counts[self._now : self._now + step].sum())
        capacity = self.service.capacity
        room = self._spec.speeds.places + (SATURATED * step + self._spec.max_wait_s) * capacity
        if seen > room * max(1, self._fleet.running):
            unseen = seen - room * max(1, self._fleet.running)
            self.ledger.refuse_unseen(at_bin, unseen)
            seen -= unseen
        self._pending += seen
        count = int(self._pending / weight + 1e-9)
        self._pending -= count * weight
        began, length = self._sample.now, step / stretch
        for at in np.sort(self._rng.random(count)).tolist():
            prompt, output = next(self._lengths)
            work = self._spec.speeds.work_of(prompt, output)
            yield Request(began + length * at, prompt, output, work, weight, at_bin)

    def _count(self, step: int) -> None:
        course, fleet = self.course, self._fleet
        at, paid, devices = self._now // course.bin_s, fleet.paid, fleet.devices
        course.requests[at] += float(self._counts[self._now : self._now + step].sum())
        course.replica_s[at] += paid * step
        course.device_s[at] += devices * step
        course.most_replicas[at] = max(course.most_replicas[at], paid)
        course.most_devices[at] = max(course.most_devices[at], devices)
