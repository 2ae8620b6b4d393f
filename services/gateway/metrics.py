"""Owns `/metrics`: the gateway's own counters, and the replicas' reports in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client import Histogram as PrometheusHistogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from services.gateway.record import Record
from shared.calls import Priority
from shared.prediction import queue_wait_s
from shared.reports import Histogram, ModelReport, ReplicaReport

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
LABELS = ("service", "replica", "model")


class GatewayMetrics:
    """What this gateway process counted. Labels hold known routes, models and tenants only, so series are bounded."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "castalia_requests",
            "Requests by route, model, tenant and status.",
            ("route", "model", "tenant", "status"),
            registry=self.registry,
        )
        self._seconds = PrometheusHistogram(
            "castalia_request_seconds",
            "From arrival to the last byte, in seconds.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._first_chunk = PrometheusHistogram(
            "castalia_first_chunk_seconds",
            "From arrival to the first text or picture of a stream, in seconds.",
            ("model",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._tokens = Counter(
            "castalia_tokens", "Tokens by model, tenant and kind.", ("model", "tenant", "kind"), registry=self.registry
        )
        self._units = Counter(
            "castalia_request_units",
            "Work of rows that ended well, in the model's own unit, by model and tenant.",
            ("model", "tenant"),
            registry=self.registry,
        )
        self._cut = Counter(
            "castalia_streams_cut", "Streams that failed after their first byte.", ("model",), registry=self.registry
        )
        self.mirrored = Counter(
            "castalia_mirrored",
            "Copies of requests by model and by what became of them: ok, failed, or dropped before they were sent.",
            ("model", "outcome"),
            registry=self.registry,
        )
        self.in_flight = Gauge("castalia_requests_in_flight", "Requests being answered.", registry=self.registry)

    def observe(self, record: Record, *, route: str, seconds: float) -> None:
        """Count a request that has ended."""
        model = record.model or ""
        self._requests.labels(route, model, record.tenant.name, str(record.status)).inc()
        self._seconds.labels(route).observe(seconds)
        if record.first_chunk_s is not None:
            self._first_chunk.labels(model).observe(record.first_chunk_s)
        if record.cut:
            self._cut.labels(model).inc()
        if record.units:
            self._units.labels(model, record.tenant.name).inc(record.units)
        for kind, count in (("prompt", record.prompt_tokens), ("completion", record.completion_tokens)):
            if count:
                self._tokens.labels(model, record.tenant.name, kind).inc(count)

    def render(self, reports: Sequence[ReplicaReport]) -> bytes:
        """Prometheus' text format 0.0.4."""
        replicas = CollectorRegistry()
        replicas.register(_Reports(reports))
        return generate_latest(self.registry) + generate_latest(replicas)


Reading = tuple[str, str, Callable[[ModelReport], float | None]]  # None: not known yet, so no sample
GAUGES: tuple[Reading, ...] = (
    ("model_ready", "1 if the model is loaded.", lambda m: float(m.state == "ready")),
    ("model_memory_bytes", "Bytes that the loaded model may take.", lambda m: m.memory),
    ("waiting_rows", "Rows in the queue.", lambda m: m.waiting_rows),
    ("waiting_cost", "Cost of the rows in the queue, in units.", lambda m: m.waiting_cost),
    ("running_rows", "Rows in the running batch.", lambda m: m.running_rows),
    ("predicted_wait_seconds", "Seconds that the queue is predicted to last.", lambda m: queue_wait_s(m.load, m.pace)),
    ("units_per_second", "Units a second of late, while rows waited.", lambda m: m.pace.units_per_second),
    ("seconds_per_step", "Seconds a step took a running row of late.", lambda m: m.pace.seconds_per_step),
    ("used_cost_ratio", "Work over cost of the last rows that ended well.", lambda m: m.pace.used),
)
COUNTERS: tuple[Reading, ...] = (
    ("steps", "Steps taken.", lambda m: m.steps),
    ("row_steps", "Rows stepped, summed over steps.", lambda m: m.row_steps),
    ("units", "Work done, in the model's own unit.", lambda m: m.units),
)
HISTOGRAMS: tuple[tuple[str, str, Callable[[ModelReport], Histogram]], ...] = (
    ("queue_seconds", "Seconds in the queue.", lambda m: m.queue_seconds),
    ("row_first_chunk_seconds", "Seconds from submission to a row's first chunk.", lambda m: m.first_chunk_seconds),
    ("step_seconds", "Seconds a step.", lambda m: m.step_seconds),
)


class _Reports(Collector):
    """The replicas' own counters, as they reported them a moment ago."""

    def __init__(self, reports: Sequence[ReplicaReport]) -> None:
        self._rows = [((r.service, r.replica, m.model), m) for r in reports for m in r.models]

    def collect(self) -> Iterator[Metric]:
        for name, text, read in GAUGES:
            gauge = GaugeMetricFamily(f"castalia_{name}", text, labels=LABELS)
            for key, value in self._known(read):
                gauge.add_metric(key, value)
            yield gauge
        for name, text, read in COUNTERS:
            counter = CounterMetricFamily(f"castalia_{name}", text, labels=LABELS)
            for key, value in self._known(read):
                counter.add_metric(key, value)
            yield counter
        for name, text, find in HISTOGRAMS:
            family = HistogramMetricFamily(f"castalia_{name}", text, labels=LABELS)
            for key, model in self._rows:
                family.add_metric(key, _cumulative(find(model)), find(model).total)
            yield family
        yield self._finished()
        yield self._waiting()

    def _known(self, read: Callable[[ModelReport], float | None]) -> Iterator[tuple[tuple[str, str, str], float]]:
        return ((key, value) for key, model in self._rows if (value := read(model)) is not None)

    def _waiting(self) -> Metric:
        text = "Cost that waits at a replica or on its way into the queue, in units."
        family = GaugeMetricFamily("castalia_tenant_waiting_cost", text, labels=(*LABELS, "priority", "tenant"))
        for key, model in self._rows:
            for each in model.waiting:
                priority = Priority(each.share.priority).name.lower()
                family.add_metric((*key, priority, each.share.tenant), each.cost)
        return family

    def _finished(self) -> Metric:
        family = CounterMetricFamily("castalia_finished_rows", "Rows by how they ended.", labels=(*LABELS, "reason"))
        for key, model in self._rows:
            for reason, count in model.finished.items():
                family.add_metric((*key, reason), count)
        return family


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    """Prometheus' buckets hold all observations up to their bound; ours hold those since the bound before."""
    buckets: list[tuple[str, float]] = []
    seen = 0
    for bound, count in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
        seen += count
        buckets.append((str(bound), float(seen)))
    return buckets
