"""Owns the engine's counters, by model. Written by the engine's thread, read from any."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock

from services.engine.contract import FinishReason

# Seconds. A step aims at 5 to 50 ms; a wait may last as long as a request is allowed to.
STEP_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0)
WAIT_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
ROW_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)  # rows in a step

_WELL = (FinishReason.STOP, FinishReason.LENGTH)
PACE_MEMORY_S = 10.0  # seconds with a queue after which a measured rate counts for 1/e
PACE_MEMORY_STEPS = 32  # the same in steps, for how long rows take for one of theirs
PACE_MEMORY_ROWS = 16  # the same in ended rows as large as the largest, for what is measured by the row
LARGEST_MEMORY_ROWS = 1000  # ended rows after which the largest counts for 1/e of its size


@dataclass(frozen=True, slots=True)
class Histogram:
    """`counts[i]` observations were over `bounds[i - 1]` and at most `bounds[i]`; the last, over all bounds.

    In seconds, but for rows.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float  # sum of the observations


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a model has been of late. None: it has not been seen yet.

    `units_per_second` is of all rows together, over the time in which some row had to wait: what a queue drains at. An
    emptier batch makes fewer units a second, and says nothing of that. `seconds_per_step` is what a running row takes
    for each step that it was predicted to take, its waits for other groups and models and for its turn to read a prompt
    included. It is not known before a row has ended well: most answers end long before their bound. `used` is the work
    done over the cost, of rows that ended well.
    """

    units_per_second: float | None = None
    seconds_per_step: float | None = None
    used: float | None = None


@dataclass(frozen=True, slots=True)
class ModelStats:
    """One model's gauges (`waiting_*`, `running_*`, `pace`, `free_rows`) and counters, which only grow."""

    waiting_rows: int
    waiting_cost: float
    running_rows: int
    running_cost: float
    steps: int
    row_steps: int  # rows stepped, summed over steps: row_steps / steps is the mean batch occupancy
    units: float
    finished: Mapping[FinishReason, int]
    queue_seconds: Histogram  # rows that left the queue, to run or not
    first_chunk_seconds: Histogram  # from submission
    step_seconds: Histogram
    pace: Pace
    free_rows: int  # places in the batch; 0 while rows wait that found none, or did not fit
    places: int  # rows that the batch takes
    batch_rows: Histogram  # rows in a step


class _Fading:
    """A ratio of two sums in which older terms count ever less: exponentially weighted, over and under alike."""

    __slots__ = ("_largest", "_over", "_under")

    def __init__(self) -> None:
        self._over = self._under = self._largest = 0.0

    @property
    def value(self) -> float | None:
        return self._over / self._under if self._under > 0 else None

    def add(self, over: float, under: float, *, keep: float) -> None:
        """`keep` in [0, 1] is what all earlier terms still count for."""
        self._over = keep * self._over + over
        self._under = keep * self._under + under

    def add_row(self, over: float, under: float) -> None:
        """A row counts by its size: a thousand small ones do not make a few large ones forgotten."""
        self._largest = max(under, self._largest * (1 - 1 / LARGEST_MEMORY_ROWS))
        if self._largest > 0:
            self.add(over, under, keep=1 - under / (PACE_MEMORY_ROWS * self._largest))


class _Observations:
    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def snapshot(self) -> Histogram:
        return Histogram(self.bounds, tuple(self.counts), self.total)


class ModelCounters:
    """Counts what happens to one model's rows. Every method is safe from any thread; all times are in seconds.

    `places` is how many rows its batch takes.
    """

    def __init__(self, places: int = 0) -> None:
        self._lock = Lock()
        self._places = places
        self._waiting_rows = 0
        self._waiting_cost = 0.0
        self._running_rows = 0
        self._running_cost = 0.0
        self._steps = 0
        self._row_steps = 0
        self._units = 0.0
        self._finished = dict.fromkeys(FinishReason, 0)
        self._queue = _Observations(WAIT_BOUNDS)
        self._first_chunk = _Observations(WAIT_BOUNDS)
        self._step = _Observations(STEP_BOUNDS)
        self._batch = _Observations(ROW_BOUNDS)
        self._queued_at: float | None = None  # the last step's end, if a row had to wait through it
        self._stepped_at: float | None = None  # the last step's end, if a row has been running since
        self._rate, self._turn, self._taken, self._used = _Fading(), _Fading(), _Fading(), _Fading()

    def enqueued(self, cost: float) -> None:
        with self._lock:
            self._waiting_rows += 1
            self._waiting_cost += cost

    def dequeued(self, cost: float, seconds: float) -> None:
        """A row left the queue after so long. An empty queue costs exactly 0: rounding never adds up."""
        with self._lock:
            self._waiting_rows -= 1
            self._waiting_cost = self._waiting_cost - cost if self._waiting_rows else 0.0
            self._queue.observe(seconds)

    def started(self, cost: float) -> None:
        with self._lock:
            if self._running_rows == 0:
                self._stepped_at = None
            self._running_rows += 1
            self._running_cost += cost

    def first_chunk(self, seconds: float) -> None:
        with self._lock:
            self._first_chunk.observe(seconds)

    def stepped(self, rows: int, moved: int, units: float, seconds: float, *, at: float) -> None:
        """A step of so many rows ended at a time, before any of them left; `moved` are those that it did work for.

        Rows that wait at its end had to: whatever could start did so before it.
        """
        with self._lock:
            self._steps += 1
            self._row_steps += rows
            self._units += units
            self._step.observe(seconds)
            self._batch.observe(rows)
            if self._queued_at is not None and self._waiting_rows:
                passed = at - self._queued_at  # with the turns that other models took meanwhile
                self._rate.add(units, passed, keep=math.exp(-passed / PACE_MEMORY_S))
            self._queued_at = at if self._waiting_rows else None
            turn = seconds if self._stepped_at is None else at - self._stepped_at
            self._turn.add(self._running_rows * turn, moved, keep=1 - 1 / PACE_MEMORY_STEPS)
            self._stepped_at = at

    def finished(self, reason: FinishReason, *, ran: bool, cost: float, units: float, steps: float, moved: int) -> None:
        """A row ended that was predicted to take so many `steps`, and moved in so many of them, if it ran at all."""
        with self._lock:
            self._finished[reason] += 1
            if not ran:
                return
            self._running_rows -= 1
            self._running_cost = self._running_cost - cost if self._running_rows else 0.0
            if units > 0 and reason in _WELL:
                self._used.add_row(units, cost)
                self._taken.add_row(moved, steps)

    def snapshot(self) -> ModelStats:
        with self._lock:
            return ModelStats(
                self._waiting_rows,
                self._waiting_cost,
                self._running_rows,
                self._running_cost,
                self._steps,
                self._row_steps,
                self._units,
                dict(self._finished),
                self._queue.snapshot(),
                self._first_chunk.snapshot(),
                self._step.snapshot(),
                Pace(self._rate.value, self._seconds_per_step, self._used.value),
                0 if self._queued_at is not None else max(0, self._places - self._running_rows),
                self._places,
                self._batch.snapshot(),
            )

    @property
    def _seconds_per_step(self) -> float | None:
        turn, taken = self._turn.value, self._taken.value
        return None if turn is None or taken is None else turn * taken
