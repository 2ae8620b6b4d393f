"""Owns `/metrics`: what this gateway counted, and beside it what the replicas report. docs/metrics.md lists it all."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from services.gateway.metric_labels import Families, OwnSeries, TenantLabels
from services.gateway.record import CLIENT_CLOSED, Record
from services.gateway.replica_metrics import ReplicaSeries
from shared.config.base import ServiceConfig
from shared.config.models import FleetConfig
from shared.reports import ReplicaReport

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
PAUSES = (0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# Of a request that was in order, and was not taken: for want of a right, a budget, room or time.
REFUSED = frozenset({401, 403, 429, 503})
REASONS = frozenset(
    {
        "insufficient_quota",
        "invalid_api_key",
        "model_loading",
        "model_not_allowed",
        "not_ready",
        "operator_only",
        "priority_not_allowed",
        "rate_limit_exceeded",
        "server_is_overloaded",
        "store_unavailable",
        "upstream_failed",
    }
)
OTHER_REASON = "other"


class GatewayMetrics:
    """What this gateway process counted. `gateway` names it, among those that one address leads to.

    Labels hold routes, models and families of the configuration, the service's own codes, and a bounded number of
    tenants: series are bounded.
    """

    def __init__(self, gateway: str = "") -> None:
        self.registry = CollectorRegistry()
        self.tenants = TenantLabels()
        self._gateway = gateway
        self._families = Families()
        self._services: tuple[ServiceConfig, ...] = ()
        self._requests = self._counter(
            "requests", "Requests that have ended.", "route", "model", "family", "tenant", "status"
        )
        self._seconds = self._histogram(
            "request_seconds", "From a request's arrival to its last byte.", SECONDS, "route", "model", "family"
        )
        self._first_chunk = self._histogram(
            "time_to_first_chunk_seconds",
            "From a request's arrival to the first piece of its stream.",
            SECONDS,
            "model",
            "family",
        )
        self._inter_chunk = self._histogram(
            "inter_chunk_seconds", "Between two pieces of a stream.", PAUSES, "model", "family"
        )
        self._tokens = self._counter("tokens", "Tokens read and written.", "model", "family", "tenant", "kind")
        self._cached = self._counter(
            "cached_tokens", "Tokens of prompts that the model had read before.", "model", "family", "tenant"
        )
        self._cache_hits = Gauge(
            "castalia_cache_hit_ratio",
            "Cached tokens over tokens of prompts, since the gateway started.",
            ("model", "family"),
            registry=self.registry,
        )
        self._units = self._counter("request_units", "Work of rows that ended well.", "model", "family", "tenant")
        self._refusals = self._counter(
            "refusals", "Requests that were not taken, by the error's code.", "reason", "model", "family", "tenant"
        )
        self._aborts = self._counter(
            "aborts", "Requests whose client went away before their end.", "model", "family", "tenant"
        )
        self._cut = self._counter("streams_cut", "Streams that failed after their first byte.", "model", "family")
        self.mirrored = self._counter("mirrored", "Copies of requests, by what became of them.", "model", "outcome")
        self.in_flight = Gauge("castalia_requests_in_flight", "Requests being answered.", registry=self.registry)
        self._prompts: dict[str, tuple[int, int]] = {}  # by model: tokens of prompts, and cached ones of them

    def configure(self, fleet: FleetConfig) -> None:
        """Know the families of these models, and show what their services may become."""
        self._services = fleet.hosted
        self._families.configure(fleet)

    def observe(self, record: Record, *, route: str, seconds: float) -> None:
        """Count a request that has ended."""
        model = record.model or ""
        family, tenant = self._families.of(model), self.tenants.of(record.tenant.name)
        self._requests.labels(route, model, family, tenant, str(record.status)).inc()
        self._seconds.labels(route, model, family).observe(seconds)
        if record.first_chunk_s is not None:
            self._first_chunk.labels(model, family).observe(record.first_chunk_s)
        if record.cut:
            self._cut.labels(model, family).inc()
        if record.units:
            self._units.labels(model, family, tenant).inc(record.units)
        if record.status == CLIENT_CLOSED:
            self._aborts.labels(model, family, tenant).inc()
        elif record.status in REFUSED:
            reason = record.refusal if record.refusal in REASONS else OTHER_REASON
            self._refusals.labels(reason, model, family, tenant).inc()
        for kind, count in (("prompt", record.prompt_tokens), ("completion", record.completion_tokens)):
            if count:
                self._tokens.labels(model, family, tenant, kind).inc(count)
        if record.prompt_tokens:
            self._note_prompt(record, model, family, tenant)

    def paused(self, model: str, seconds: float) -> None:
        """A stream's next piece came so long after the one before."""
        self._inter_chunk.labels(model, self._families.of(model)).observe(seconds)

    def render(self, reports: Sequence[ReplicaReport]) -> bytes:
        """Prometheus' text format 0.0.4."""
        shown = CollectorRegistry(auto_describe=False)
        shown.register(OwnSeries(self.registry, self._gateway))
        shown.register(ReplicaSeries(reports, self._services, self._families, self.tenants, self._gateway))
        return generate_latest(shown)

    def _note_prompt(self, record: Record, model: str, family: str, tenant: str) -> None:
        if record.cached_tokens:
            self._cached.labels(model, family, tenant).inc(record.cached_tokens)
        prompt, cached = self._prompts.get(model, (0, 0))
        self._prompts[model] = prompt, cached = prompt + record.prompt_tokens, cached + record.cached_tokens
        self._cache_hits.labels(model, family).set(cached / prompt)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"castalia_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"castalia_{name}", text, labels, buckets=buckets, registry=self.registry)
