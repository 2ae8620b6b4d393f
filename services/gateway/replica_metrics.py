"""Owns how the replicas' reports look in Prometheus' format, and what the configuration lets services become."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from services.gateway.metric_labels import Families, TenantLabels
from shared.calls import Priority
from shared.config.base import ServiceConfig
from shared.prediction import queue_wait_s
from shared.reports import Histogram, ModelReport, ReplicaReport

MODEL = ("service", "replica", "model", "family")
REPLICA = ("service", "replica")
SERVICE = ("service",)

SubjectT = TypeVar("SubjectT")
Key = tuple[str, ...]
Read = Callable[[SubjectT], float | None]  # None: not known, so that there is no sample
Reading = tuple[str, str, Read[SubjectT]]

GAUGES: tuple[Reading[ModelReport], ...] = (
    ("model_ready", "1 if the model is loaded.", lambda m: float(m.state == "ready")),
    ("model_load_seconds", "How long the last load of the model took.", lambda m: m.load_s),
    ("model_memory_bytes", "Memory that the loaded model may take.", lambda m: m.memory),
    ("waiting_rows", "Rows in the queue.", lambda m: m.waiting_rows),
    ("waiting_cost", "Cost of the rows in the queue.", lambda m: m.waiting_cost),
    ("running_rows", "Rows in the running batch.", lambda m: m.running_rows),
    ("batch_places", "Rows that the batch takes.", lambda m: m.places or None),
    ("predicted_wait_seconds", "How long the queue is predicted to last.", lambda m: queue_wait_s(m.load, m.pace)),
    ("units_per_second", "Work of late, while rows waited.", lambda m: m.pace.units_per_second),
    ("seconds_per_step", "What a step took a running row of late.", lambda m: m.pace.seconds_per_step),
    ("used_cost_ratio", "Work over cost of the last rows that ended well.", lambda m: m.pace.used),
)
COUNTERS: tuple[Reading[ModelReport], ...] = (
    ("steps", "Steps taken.", lambda m: m.steps),
    ("row_steps", "Rows stepped, summed over steps.", lambda m: m.row_steps),
    ("units", "Work done.", lambda m: m.units),
)
COUNTED = (  # by the names that families count under; a model whose family does not has no sample
    ("guessed_tokens", "Tokens guessed ahead that were checked."),
    ("accepted_tokens", "Of these, those that were right, and made a token more."),
    ("forms_compiled", "Forms of answers that were new and were compiled."),
    ("forms_refused", "Forms of answers that were new and cannot be had."),
    ("forms_found", "Forms of answers that were known from before."),
    ("form_seconds", "How long new forms took."),
)
HISTOGRAMS: tuple[tuple[str, str, Callable[[ModelReport], Histogram]], ...] = (
    ("queue_seconds", "How long a row was in the queue.", lambda m: m.queue_seconds),
    ("row_first_chunk_seconds", "From a row's submission to its first chunk.", lambda m: m.first_chunk_seconds),
    ("step_seconds", "How long a step took.", lambda m: m.step_seconds),
    ("batch_occupancy", "Rows in a step.", lambda m: m.batch_rows),
)
OF_SERVICES: tuple[Reading[ServiceConfig], ...] = (
    ("service_replicas_max", "The most replicas that the service may have.", lambda s: s.replicas.max),
    ("service_target_wait_seconds", "Replicas are added above this wait.", lambda s: s.replicas.target_wait_s),
)


class ReplicaSeries(Collector):
    """The replicas' own counters, as they reported them a moment ago: every gateway shows the same of them.

    `gateway` names this one, in what it knows of servers that are not ours.
    """

    def __init__(
        self,
        reports: Sequence[ReplicaReport],
        services: Sequence[ServiceConfig],
        families: Families,
        tenants: TenantLabels,
        gateway: str,
    ) -> None:
        self._replicas = [((report.service, _name(report, gateway)), report) for report in reports]
        self._models = [
            ((*key, model.model, families.of(model.model)), model)
            for key, report in self._replicas
            for model in report.models
        ]
        self._services = [((service.name,), service) for service in services]
        self._tenants = tenants

    def collect(self) -> Iterator[Metric]:
        for reading in GAUGES:
            yield _gauge(reading, MODEL, self._models)
        for name, text, read in COUNTERS:
            counter = CounterMetricFamily(f"castalia_{name}", text, labels=MODEL)
            for key, model in self._models:
                counter.add_metric(key, read(model) or 0.0)
            yield counter
        for name, text in COUNTED:
            counter = CounterMetricFamily(f"castalia_{name}", text, labels=MODEL)
            for key, model in self._models:
                if name in model.counts:
                    counter.add_metric(key, model.counts[name])
            yield counter
        for name, text, find in HISTOGRAMS:
            family = HistogramMetricFamily(f"castalia_{name}", text, labels=MODEL)
            for key, model in self._models:
                family.add_metric(key, _cumulative(find(model)), find(model).total)
            yield family
        yield self._finished()
        yield self._waiting()
        yield _gauge(("engine_up", "1 if the replica's engine works.", _is_up), REPLICA, self._replicas)
        yield from self._devices()
        for of_service in OF_SERVICES:
            yield _gauge(of_service, SERVICE, self._services)

    def _waiting(self) -> Metric:
        costs: dict[Key, float] = defaultdict(float)
        for key, model in self._models:
            for each in model.waiting:
                priority = Priority(each.share.priority).name.lower()
                costs[(*key, priority, self._tenants.of(each.share.tenant))] += each.cost
        text = "Cost that waits at a replica or on its way into the queue."
        family = GaugeMetricFamily("castalia_tenant_waiting_cost", text, labels=(*MODEL, "priority", "tenant"))
        for labels, cost in costs.items():
            family.add_metric(labels, cost)
        return family

    def _finished(self) -> Metric:
        family = CounterMetricFamily("castalia_finished_rows", "Rows, by how they ended.", labels=(*MODEL, "reason"))
        for key, model in self._models:
            for reason, count in model.finished.items():
                family.add_metric((*key, reason), count)
        return family

    def _devices(self) -> Iterator[Metric]:
        found = [
            ((*key, str(index)), device)
            for key, report in self._replicas
            for index, device in enumerate(report.devices)
        ]
        labels = (*REPLICA, "device")
        yield _gauge(
            ("device_memory_allocated_bytes", "Memory of a device that holds tensors.", lambda d: d.allocated),
            labels,
            found,
        )
        yield _gauge(
            ("device_memory_limit_bytes", "Memory of a device that the replica may take.", lambda d: d.limit),
            labels,
            found,
        )


def _name(report: ReplicaReport, gateway: str) -> str:
    """What runs elsewhere is counted by each gateway for itself."""
    return report.replica if report.healthy is not None else f"{report.replica}:{gateway}"


def _is_up(report: ReplicaReport) -> float | None:
    return None if report.healthy is None else float(report.healthy)


def _gauge(reading: Reading[SubjectT], labels: Key, subjects: Sequence[tuple[Key, SubjectT]]) -> Metric:
    name, text, read = reading
    family = GaugeMetricFamily(f"castalia_{name}", text, labels=labels)
    for key, subject in subjects:
        if (value := read(subject)) is not None:
            family.add_metric(key, value)
    return family


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    """Prometheus' buckets hold all observations up to their bound; ours hold those since the bound before."""
    buckets: list[tuple[str, float]] = []
    seen = 0
    for bound, count in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
        seen += count
        buckets.append((str(bound), float(seen)))
    return buckets
