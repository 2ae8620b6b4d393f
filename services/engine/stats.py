"""Owns the engine's counters, by model. Written by the engine's thread, read from any."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock

from services.engine.contract import FinishReason

# Seconds. A step aims at 5 to 50 ms; a wait may last as long as a request is allowed to.
STEP_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0)
WAIT_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


@dataclass(frozen=True, slots=True)
class Histogram:
    """`counts[i]` observations were over `bounds[i - 1]` and at most `bounds[i]` seconds; the last, over all bounds."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float  # sum of the observations, in seconds


@dataclass(frozen=True, slots=True)
class ModelStats:
    """One model's gauges (`waiting_*`, `running_rows`) and counters, which only grow."""

    waiting_rows: int
    waiting_cost: float
    running_rows: int
    steps: int
    row_steps: int  # rows stepped, summed over steps: row_steps / steps is the mean batch occupancy
    units: float
    finished: Mapping[FinishReason, int]
    queue_seconds: Histogram  # rows that left the queue, to run or not
    first_chunk_seconds: Histogram  # from submission
    step_seconds: Histogram


class _Observations:
    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def snapshot(self) -> Histogram:
        return Histogram(self.bounds, tuple(self.counts), self.total)


class ModelCounters:
    """Counts what happens to one model's rows. Every method is safe from any thread; all times are in seconds."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting_rows = 0
        self._waiting_cost = 0.0
        self._running_rows = 0
        self._steps = 0
        self._row_steps = 0
        self._units = 0.0
        self._finished = dict.fromkeys(FinishReason, 0)
        self._queue = _Observations(WAIT_BOUNDS)
        self._first_chunk = _Observations(WAIT_BOUNDS)
        self._step = _Observations(STEP_BOUNDS)

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

    def started(self) -> None:
        with self._lock:
            self._running_rows += 1

    def first_chunk(self, seconds: float) -> None:
        with self._lock:
            self._first_chunk.observe(seconds)

    def stepped(self, rows: int, units: float, seconds: float) -> None:
        with self._lock:
            self._steps += 1
            self._row_steps += rows
            self._units += units
            self._step.observe(seconds)

    def finished(self, reason: FinishReason, *, ran: bool) -> None:
        with self._lock:
            self._finished[reason] += 1
            self._running_rows -= ran

    def snapshot(self) -> ModelStats:
        with self._lock:
            return ModelStats(
                self._waiting_rows,
                self._waiting_cost,
                self._running_rows,
                self._steps,
                self._row_steps,
                self._units,
                dict(self._finished),
                self._queue.snapshot(),
                self._first_chunk.snapshot(),
                self._step.snapshot(),
            )
