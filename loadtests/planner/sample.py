"""Owns the replicas that are simulated: which of them a request goes to, and all that happens to them, in order.

A request goes to the less busy of two random replicas (`services/affinity_router.py`, for calls without affinity) and
stays there. Before the first replica runs, requests wait outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random

from loadtests.planner.replica import Replica, Request, Spec

Ended = Callable[[Request, float], None]


class Sample:
    """`ended` is told of each answer and when it was whole, `refused` of each refusal."""

    def __init__(
        self, spec: Spec, *, ended: Ended, refused: Ended, seed: int = 0, clock: Callable[[], float] | None = None
    ) -> None:
        self._spec = spec
        self._ended = ended
        self._refused = refused
        self._draw = Random(seed).random
        self._clock = clock or (lambda: self.now)
        self._due: list[tuple[float, int, Replica]] = []
        self._number = 0
        self._outside: list[Request] = []
        self.now = 0.0
        self.running: list[Replica] = []

    @property
    def ongoing(self) -> int:
        return len(self._outside) + sum(replica.ongoing for replica in self.running)

    def resize(self, replicas: int) -> None:
        """The newest go, and end what they have; new ones are empty."""
        while len(self.running) > replicas:
            self.running.pop()
        while len(self.running) < replicas:
            self.running.append(Replica(self._spec, self.now, self._clock))
        if self.running:
            outside, self._outside = self._outside, []
            for request in outside:
                self._route(request)

    def offer(self, request: Request) -> None:
        """A request that comes at `request.at`: everything before it happens first."""
        self.run(request.at)
        if self.running:
            self._route(request)
        else:
            self._outside.append(request)

    def next_due(self) -> float:
        while self._due and self._due[0][0] != self._due[0][2].due:  # something has come in between
            heappop(self._due)
        return self._due[0][0] if self._due else math.inf

    def run(self, until: float) -> None:
        while self.next_due() <= until:
            self.step()
        self.now = max(self.now, until)

    def step(self) -> None:
        """The next thing that is due, which must be something, happens."""
        at, _, replica = heappop(self._due)
        self.now = at
        ended = replica.fire()
        self._schedule(replica)
        if ended is not None:
            self._ended(ended, at)

    def drain(self) -> None:
        """All that was taken ends. What waits outside is refused: nobody comes for it."""
        while self.next_due() < math.inf:
            self.step()
        for request in self._outside:
            self._refused(request, self.now)
        self._outside.clear()

    def report(self, stretch: float) -> None:
        for replica in self.running:
            replica.report(self.now, stretch)
            self._schedule(replica)  # its due time was computed anew, and may differ in the last digit

    def _route(self, request: Request) -> None:
        replica = self._chosen()
        if replica.refuses(request):
            self._refused(request, self.now)
        elif replica.take(request, self.now):
            self._schedule(replica)

    def _chosen(self) -> Replica:
        running = self.running
        if len(running) == 1:
            return running[0]
        first = int(self._draw() * len(running))
        second = int(self._draw() * (len(running) - 1))
        one, other = running[first], running[second + (second >= first)]
        return one if one.ongoing <= other.ongoing else other

    def _schedule(self, replica: Replica) -> None:
        if replica.due < math.inf:
            self._number += 1
            heappush(self._due, (replica.due, self._number, replica))
