"""Owns a service in simulated time: requests that arrive, replicas that start, serve and drain. Exact for its seed.

A replica is as on a GPU: each of its places works at one speed, however many are taken, and rows that find none wait in
order. Requests go to the shorter queue of two random replicas and stay there; before the first replica runs they wait
outside. What would wait for over a minute is refused. What a policy sees is what Ray Serve would show it, as late:
replicas and callers report every second, Ray's count of requests is a mean over its window, and a decision is made ten
times a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random

from services.scaling.load import LoadMeter, ModelLoad, ReplicaLoad
from shared.prediction import Load, Pace, Share, Waiting, queue_wait_s

TICK_S = 0.1  # Ray's control loop
REPORT_TICKS = 10
SHARE = Share(1, "tenant", 1.0)


@dataclass(frozen=True, slots=True)
class Service:
    """What is simulated. A request is a row of `cost` units, give or take half; a place does `speed` units a second."""

    start_s: float = 40.0
    places: int = 16
    speed: float = 25.0
    cost: float = 100.0
    least: int = 0
    most: int = 8
    window_s: float = 2.0
    max_wait_s: float = 60.0

    @property
    def capacity(self) -> float:
        """Requests a second of one replica."""
        return self.places * self.speed / self.cost


@dataclass(frozen=True, slots=True)
class Seen:
    """What a policy is shown."""

    at: float
    loads: Sequence[ReplicaLoad | None]
    wanted: int
    requests: float


Decide = Callable[[Seen], int]


@dataclass(frozen=True, slots=True)
class Request:
    at: float
    cost: float


@dataclass(slots=True)
class Replica:
    """One replica, from the decision for it. `said` is its last report."""

    service: Service
    ready_at: float
    clock: Callable[[], float]
    queue: deque[Request] = field(default_factory=deque[Request])
    ends: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])  # (when, cost) of running rows
    queued: float = 0.0  # cost
    units: float = 0.0
    has_queued: bool = False
    said: ReplicaLoad | None = None
    meter: LoadMeter = field(init=False)

    def __post_init__(self) -> None:
        self.meter = LoadMeter(self.clock)

    @property
    def requests(self) -> int:
        return len(self.queue) + len(self.ends)

    def work(self, now: float) -> list[float]:
        """Let rows end and start until now; the waits of those that started."""
        waits: list[float] = []
        while self.ends and self.ends[0][0] <= now:
            free_at, _ = heappop(self.ends)
            if self.queue:
                waits.append(self._start(max(free_at, self.queue[0].at)))
        while self.queue and len(self.ends) < self.service.places:
            waits.append(self._start(now))
        self.has_queued = self.has_queued or bool(self.queue)
        self.units += len(self.ends) * self.service.speed * TICK_S
        return waits

    def report(self) -> None:
        service = self.service
        rate = service.places * service.speed if self.has_queued else None
        waiting = (Waiting(SHARE, self.queued, len(self.queue)),) if self.queue else ()
        running = sum(cost for _, cost in self.ends)
        free = 0 if self.queue else service.places - len(self.ends)
        wait_s = queue_wait_s(Load(waiting, len(self.ends), running, free), Pace(rate))
        self.said = self.meter.read([ModelLoad("model", self.requests, free, self.units, self.queued, wait_s, rate)])

    def _start(self, at: float) -> float:
        request = self.queue.popleft()
        self.queued = self.queued - request.cost if self.queue else 0.0
        heappush(self.ends, (at + request.cost / self.service.speed, request.cost))
        return at - request.at


@dataclass(slots=True)
class Run:
    """What came of it. `counts` are the replicas that are paid for, and those wanted, once a second."""

    waits: list[float] = field(default_factory=list[float])
    wanted: list[int] = field(default_factory=list[int])
    paid: list[int] = field(default_factory=list[int])
    replica_s: float = 0.0
    refused: int = 0


class Simulation:
    def __init__(self, service: Service, decide: Decide, *, seed: int = 0) -> None:
        self._service = service
        self._decide = decide
        self._draw = Random(seed)
        self._now = 0.0
        self._wanted = service.least
        self._replicas: list[Replica] = []
        self._draining: list[Replica] = []
        self._outside: list[Request] = []
        self._counted: deque[int] = deque(maxlen=round(service.window_s / TICK_S))
        self._requests = 0.0  # Ray's count, as it was last reported
        self.run = Run()

    def play(self, arrivals: Sequence[int], *, rest_s: int) -> Run:
        """The arrivals, second by second, and a rest in which nothing arrives."""
        per_second = round(1 / TICK_S)
        for second, count in enumerate([*arrivals, *[0] * rest_s]):
            coming = sorted(second + self._draw.random() for _ in range(count))
            for tick in range(per_second):
                self._now = second + (tick + 1) * TICK_S
                while coming and coming[0] <= self._now:
                    self._arrive(Request(coming.pop(0), self._service.cost * (0.5 + self._draw.random())))
                self._tick(second * per_second + tick)
            self.run.wanted.append(self._wanted)
            self.run.paid.append(len(self._replicas) + len(self._draining))
        return self.run

    @property
    def _running(self) -> list[Replica]:
        return [replica for replica in self._replicas if replica.ready_at <= self._now]

    def _tick(self, tick: int) -> None:
        running = self._running
        if running:
            for request in self._outside:
                self._route(request, running)
            self._outside.clear()
        for replica in [*running, *self._draining]:
            self.run.waits += replica.work(self._now)
        self._draining = [replica for replica in self._draining if replica.requests]
        self.run.replica_s += (len(self._replicas) + len(self._draining)) * TICK_S
        self._counted.append(len(self._outside) + sum(replica.requests for replica in running))
        if tick % REPORT_TICKS == 0:
            self._requests = sum(self._counted) / len(self._counted)
            for replica in running:
                replica.report()
        seen = Seen(self._now, [replica.said for replica in running], self._wanted, self._requests)
        self._follow(min(max(self._decide(seen), self._service.least), self._service.most))

    def _arrive(self, request: Request) -> None:
        running = self._running
        if running:
            self._route(request, running)
        else:
            self._outside.append(request)

    def _route(self, request: Request, running: list[Replica]) -> None:
        chosen = min(self._draw.sample(running, min(2, len(running))), key=lambda replica: replica.requests)
        if chosen.queued / (self._service.places * self._service.speed) > self._service.max_wait_s:
            self.run.refused += 1
            return
        chosen.queue.append(request)
        chosen.queued += request.cost

    def _follow(self, wanted: int) -> None:
        self._wanted = wanted
        while len(self._replicas) < wanted:
            self._replicas.append(Replica(self._service, self._now + self._service.start_s, lambda: self._now))
        while len(self._replicas) > wanted:
            last = self._replicas.pop()  # the newest, which may still be starting
            if last.requests:
                self._draining.append(last)
