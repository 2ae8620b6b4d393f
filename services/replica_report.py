"""Owns what a replica says of itself: to the gateways, and to whoever decides on the number of replicas."""

from __future__ import annotations

from collections.abc import Mapping

from services.admission import Admission, Queue, load_of, pace_of, waiting_of
from services.engine.stats import Histogram as EngineHistogram
from services.engine.stats import ModelCounters, ModelStats
from services.model_slot import ModelSlot
from services.nn.device_memory import device_memory
from services.scaling.load import LoadMeter, ModelLoad, ReplicaLoad
from shared.prediction import Pace, Waiting, queue_wait_s
from shared.reports import Histogram, ModelReport, ReplicaReport


class Reporter:
    """Reads the engine's counters and queue, what admission has learned, and the pool's slots."""

    def __init__(self, service: str, replica: str, queue: Queue, admission: Admission) -> None:
        self._service = service
        self._replica = replica
        self._queue = queue
        self._admission = admission
        self._meter = LoadMeter()

    def load(self) -> ReplicaLoad:
        """How much there is to do, of all models that have had rows."""
        return self._meter.read(self._load_of(model, stats) for model, stats in self._queue.stats().items())

    def report(self, slots: Mapping[str, ModelSlot], *, max_wait_s: float, healthy: bool = True) -> ReplicaReport:
        stats = self._queue.stats()
        unused = ModelCounters().snapshot()
        models = tuple(self._model(model, slot, stats.get(model, unused)) for model, slot in slots.items())
        return ReplicaReport(self._service, self._replica, models, max_wait_s, healthy, device_memory())

    def _load_of(self, model: str, stats: ModelStats) -> ModelLoad:
        pace = pace_of(stats)
        return ModelLoad(
            model=model,
            rows=stats.waiting_rows + stats.running_rows,
            free_rows=stats.free_rows,
            done=stats.units,
            queued=pace.work(stats.waiting_cost),
            wait_s=queue_wait_s(load_of(self._queue, model, stats), pace),
            units_per_second=pace.units_per_second,
        )

    def _model(self, model: str, slot: ModelSlot, stats: ModelStats) -> ModelReport:
        pace = self._admission.pace(model, stats)
        return _model_report(model, slot, stats, waiting_of(self._queue, model), pace)


def _model_report(
    model: str, slot: ModelSlot, stats: ModelStats, waiting: tuple[Waiting, ...], pace: Pace
) -> ModelReport:
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
        running_cost=stats.running_cost,
        free_rows=stats.free_rows,
        waiting=waiting,
        pace=pace,
        places=stats.places,
        batch_rows=_histogram(stats.batch_rows),
        load_s=slot.load_s,
        counts=slot.counts,
    )


def _histogram(histogram: EngineHistogram) -> Histogram:
    return Histogram(histogram.bounds, histogram.counts, histogram.total)
