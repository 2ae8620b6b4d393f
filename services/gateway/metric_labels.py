"""Owns what bounds the labels of metrics: the tenants that are named, models' families, and whose series they are."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from shared.config.models import FleetConfig

MOST_TENANTS = 200
OTHER = "other"


class TenantLabels:
    """The first `most` tenants that are seen keep their names; all others share one until the process ends."""

    def __init__(self, most: int = MOST_TENANTS) -> None:
        self._most = most
        self._named: set[str] = set()

    def of(self, tenant: str) -> str:
        if tenant in self._named:
            return tenant
        if len(self._named) >= self._most:
            return OTHER
        self._named.add(tenant)
        return tenant


class Families:
    """The family of each model that this gateway was ever configured with: those that are gone still have series."""

    def __init__(self) -> None:
        self._of_model: dict[str, str] = {}

    def configure(self, fleet: FleetConfig) -> None:
        self._of_model.update({model.id: service.family for service in fleet.services for model in service.models})

    def of(self, model: str) -> str:
        """Empty for a model that is not known, as that of a request which names none."""
        return self._of_model.get(model, "")


class OwnSeries(Collector):
    """A registry's series with the name of their gateway: several are scraped by one address, and must not mix.

    The times at which counters were made, which the client library shows as gauges, are left out.
    """

    def __init__(self, registry: CollectorRegistry, gateway: str) -> None:
        self._registry = registry
        self._gateway = gateway

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [
                sample._replace(labels={**sample.labels, "gateway": self._gateway})
                for sample in metric.samples
                if not sample.name.endswith("_created")
            ]
            yield metric
