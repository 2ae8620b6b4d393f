"""Owns what `/metrics` says of the tenants' limits."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge


class LimitMetrics:
    """`name_of` gives a tenant's label: known tenants only, and a bounded number of them."""

    def __init__(self, registry: CollectorRegistry, name_of: Callable[[str], str] = str) -> None:
        self._name_of = name_of
        self._refusals = Counter(
            "castalia_limit_refusals",
            "Requests beyond their tenant's own limits, by tenant and limit.",
            ("tenant", "limit"),
            registry=registry,
        )
        self._shared = Gauge(
            "castalia_limits_shared", "1 while all gateways share their tenants' limits by Redis.", registry=registry
        )

    def refused(self, tenant: str, limit: str) -> None:
        self._refusals.labels(self._name_of(tenant), limit).inc()

    def shared(self, is_shared: bool) -> None:
        self._shared.set(is_shared)
