"""Owns one replica in simulated time: a batch of places, a queue before it, and when something happens next.

Rows share the replica: how fast each of them goes depends on how many run. So what a row still needs is kept in units,
on a scale that all rows share (Kleinrock's processor sharing, by virtual time), and no row is touched when others come
and go. Prompts are read one after the other, each in a place of its own; the last piece makes the first unit. Of the
queue, what is predicted and reported is what a real replica would say, from the same code.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from loadtests.planner.plan import Load as Asked
from loadtests.planner.rates import Speeds
from services.scaling.load import LoadMeter, ModelLoad, ReplicaLoad
from shared.errors import Overloaded
from shared.prediction import Load, Pace, Share, Waiting, predict, queue_wait_s

SHARE = Share(1, "tenant", 1.0)


@dataclass(frozen=True, slots=True)
class Spec:
    """What all replicas of a service have in common. Its pace is known: work is counted in seconds of a full one."""

    speeds: Speeds
    pace: Pace
    max_wait_s: float
    deadline_s: float | None
    overhead_s: float

    @classmethod
    def of(cls, asked: Asked) -> Spec:
        pace = Pace(units_per_second=1.0, seconds_per_step=asked.alone_s * asked.capacity)
        return cls(asked.speeds, pace, asked.max_wait_s, asked.deadline_s, asked.rates.overhead_s)


@dataclass(slots=True, eq=False)
class Request:
    """`weight` is how many real requests it stands for, `bin` when it came, for the report. Times are of the queue."""

    at: float
    prompt: float
    output: float
    work: float
    weight: float = 1.0
    bin: int = 0
    started: float = 0.0
    first: float = 0.0


@dataclass(slots=True, eq=False)
class Replica:
    """`due` is when its next row or prompt ends: call `fire` then, and not before. `ongoing` is what a router sees."""

    spec: Spec
    now: float
    clock: Callable[[], float]  # of the forecast, which may run faster than the queue
    due: float = math.inf
    ongoing: int = 0
    said: ReplicaLoad | None = None
    _queue: deque[Request] = field(default_factory=deque[Request])
    _rows: list[tuple[float, int, Request]] = field(default_factory=list[tuple[float, int, Request]])
    _prompts: deque[Request] = field(default_factory=deque[Request])
    _prompt_left: float = 0.0  # of the first of them, in units
    _made: float = 0.0  # units, of a row that has run all the time
    _number: int = 0
    _ends_prompt: bool = False
    _queued: float = 0.0  # work
    _running: float = 0.0
    _done: float = 0.0
    _done_before: float = 0.0
    _done_told: float = 0.0
    _has_queued: bool = False
    _meter: LoadMeter = field(init=False)

    def __post_init__(self) -> None:
        self._meter = LoadMeter(self.clock)

    def refuses(self, request: Request) -> bool:
        """As services/admission.py does; a request that need not wait is never refused."""
        if not self._queue:
            return False
        prediction = predict(self._load, self.spec.pace, SHARE, cost=request.work, steps=request.work)
        if prediction is None:
            return False
        try:
            prediction.check(deadline_s=self.spec.deadline_s, max_wait_s=self.spec.max_wait_s)
        except Overloaded:
            return True
        return False

    def take(self, request: Request, now: float) -> bool:
        """Whether `due` has changed by it: it has not while the request waits."""
        self.ongoing += 1
        if len(self._rows) + len(self._prompts) >= self.spec.speeds.places:
            self._queue.append(request)
            self._queued += request.work
            self._has_queued = True
            return False
        self._advance(now)
        self._start(request)
        self._plan()
        return True

    def fire(self) -> Request | None:
        """What was due happens; the request that has ended by it, if one has."""
        self._advance(self.due)
        ended = self._end_prompt() if self._ends_prompt else self._end_row()
        if ended is not None:
            self.ongoing -= 1
            self._running -= ended.work
            if self._queue:
                first = self._queue.popleft()
                self._queued = self._queued - first.work if self._queue else 0.0
                self._start(first)
        self._plan()
        return ended

    def report(self, now: float, stretch: float) -> None:
        """Say what the load is; `stretch` is how many seconds of the forecast a second of the queue stands for."""
        self._advance(now)
        self._plan()
        self._done_told += (self._done - self._done_before) * stretch
        self._done_before = self._done
        rate = self.spec.pace.units_per_second if self._has_queued else None
        wait_s = queue_wait_s(self._load, self.spec.pace) if self._has_queued else None
        free = 0 if self._queue else self.spec.speeds.places - len(self._rows) - len(self._prompts)
        model = ModelLoad("model", self.ongoing, free, self._done_told, self._queued, wait_s, rate)
        self.said = self._meter.read([model])

    @property
    def _load(self) -> Load:
        waiting = (Waiting(SHARE, self._queued, len(self._queue)),) if self._queue else ()
        return Load(waiting, len(self._rows) + len(self._prompts), self._running)

    def _advance(self, now: float) -> None:
        passed_s = now - self.now
        if passed_s <= 0:
            return
        self.now = now
        speeds, rows = self.spec.speeds, len(self._rows)
        if self._prompts:
            self._prompt_left -= passed_s * speeds.read[rows]
            self._made += passed_s * speeds.row_reading[rows]
            self._done += passed_s * speeds.work_reading[rows]
        elif rows:
            self._made += passed_s * speeds.row[rows]
            self._done += passed_s * speeds.work[rows]

    def _plan(self) -> None:
        """When the next row or prompt ends if nothing comes in between."""
        speeds, rows = self.spec.speeds, len(self._rows)
        row_s = prompt_s = math.inf
        if self._prompts:
            prompt_s = self._prompt_left / speeds.read[rows]
        if rows:
            speed = speeds.row_reading[rows] if self._prompts else speeds.row[rows]
            row_s = (self._rows[0][0] - self._made) / speed if speed else math.inf
        self._ends_prompt = prompt_s <= row_s
        self.due = self.now + max(0.0, min(prompt_s, row_s))

    def _start(self, request: Request) -> None:
        request.started = self.now
        self._running += request.work
        if request.prompt > 0:
            self._prompts.append(request)
            if len(self._prompts) == 1:
                self._prompt_left = request.prompt
            return
        speeds = self.spec.speeds
        self._run(request, request.output)
        request.first = self.now + min(1.0, request.output) / speeds.row[len(self._rows)]

    def _run(self, request: Request, units: float) -> None:
        self._number += 1
        heappush(self._rows, (self._made + units, self._number, request))

    def _end_prompt(self) -> Request | None:
        request = self._prompts.popleft()
        self._prompt_left = self._prompts[0].prompt if self._prompts else 0.0
        request.first = self.now
        if request.output <= 1:
            return request
        self._run(request, request.output - 1)
        # It joined between two steps, and its last piece took a step, however short: about one step in all.
        request.first += 1 / self.spec.speeds.row[len(self._rows)]
        return None

    def _end_row(self) -> Request:
        end, _, request = heappop(self._rows)
        self._made = end if self._rows else 0.0  # exactly: no sum of roundings leaves a row a moment behind
        request.first = min(request.first, self.now)
        return request
