"""Owns what a replica says of itself: reports for the gateways, and how long a refused request should stay away."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

from services.engine.stats import Histogram as EngineHistogram
from services.engine.stats import ModelCounters, ModelStats
from services.model_slot import ModelSlot
from shared.reports import Histogram, ModelReport, ReplicaReport

SAMPLES = 16  # of the units done; reports are asked for about twice a second
SHORTEST_RETRY_S = 1.0
LONGEST_RETRY_S = 30.0

Stats = Callable[[], Mapping[str, ModelStats]]


class Reporter:
    """Reads the engine's counters and the pool's slots. `stats` is safe to call from any thread."""

    def __init__(
        self, service: str, replica: str, *, stats: Stats, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._service = service
        self._replica = replica
        self._stats = stats
        self._clock = clock
        self._samples: deque[tuple[float, float]] = deque([(clock(), 0.0)], maxlen=SAMPLES)

    def report(self, slots: Mapping[str, ModelSlot]) -> ReplicaReport:
        stats = self._stats()
        self._samples.append((self._clock(), _units(stats)))
        unused = ModelCounters().snapshot()
        models = tuple(_model_report(model, slot, stats.get(model, unused)) for model, slot in slots.items())
        return ReplicaReport(self._service, self._replica, models)

    def retry_after_s(self) -> float:
        """When the queue will be shorter by half, at the rate of the last few seconds; 1 to 30 seconds."""
        stats = self._stats()
        then, before = self._samples[0]
        done = _units(stats) - before
        waiting = sum(model.waiting_cost for model in stats.values())
        if done <= 0:
            return LONGEST_RETRY_S
        rest = waiting / 2 * (self._clock() - then) / done
        return min(max(rest, SHORTEST_RETRY_S), LONGEST_RETRY_S)


def _units(stats: Mapping[str, ModelStats]) -> float:
    return sum(model.units for model in stats.values())


def _model_report(model: str, slot: ModelSlot, stats: ModelStats) -> ModelReport:
    loaded = slot.loaded
    return ModelReport(
        model=model,
        state=slot.state,
        revision=loaded.revision if loaded else "",
        limits=dict(loaded.limits) if loaded else {},
        memory=loaded.memory if loaded else 0,
        waiting_rows=stats.waiting_rows,
        waiting_cost=stats.waiting_cost,
        running_rows=stats.running_rows,
        steps=stats.steps,
        row_steps=stats.row_steps,
        units=stats.units,
        finished={reason.value: count for reason, count in stats.finished.items()},
        queue_seconds=_histogram(stats.queue_seconds),
        first_chunk_seconds=_histogram(stats.first_chunk_seconds),
        step_seconds=_histogram(stats.step_seconds),
    )


def _histogram(histogram: EngineHistogram) -> Histogram:
    return Histogram(histogram.bounds, histogram.counts, histogram.total)
