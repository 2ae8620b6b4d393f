"""A clock, a limiter that counts in memory, and gateways whose every caller is one tenant with limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from limits.aio.storage import MemoryStorage
from prometheus_client import CollectorRegistry

from services.gateway.limits import TenantLimiter
from services.gateway.limits.ledger import Book, Ledger
from services.gateway.limits.metrics import LimitMetrics
from services.gateway.limits.places import OwnPlaces
from services.gateway.tenants import Tenant
from tests.unit.gateway.fakes import FakeDispatcher, Gateway, make_gateway

MINUTE = 28_333_333 * 60.0  # a minute's first second, in November 2023


class Now:
    """Seconds since the epoch, moved by hand."""

    def __init__(self, seconds: float = MINUTE) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


def ledger(now: Callable[[], float]) -> Ledger:
    return Ledger(MemoryStorage(), OwnPlaces(), now=now)


@dataclass
class Limits:
    """A limiter, and what surrounds it."""

    now: Now = field(default_factory=Now)
    used: dict[str, float] = field(default_factory=dict)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def limiter(self, book: Book | None = None) -> TenantLimiter:
        book = book or ledger(self.now)
        metrics = LimitMetrics(self.registry)
        return TenantLimiter(book, metrics, month_units=lambda name: self.used.get(name, 0.0), now=self.now)

    def refusals(self, limit: str, tenant: str = "alice") -> float:
        labels = {"tenant": tenant, "limit": limit}
        return self.registry.get_sample_value("castalia_limit_refusals_total", labels) or 0.0


class OneTenant:
    """Keys that take everyone for one tenant."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant

    def tenant_of(self, authorization: str | None) -> Tenant:
        return self.tenant

    def tenant_named(self, name: str) -> Tenant | None:
        return self.tenant if name == self.tenant.name else None

    async def start(self) -> None:
        """Nothing to read."""

    async def close(self) -> None:
        """Nothing is held."""


def limited_gateway(tenant: Tenant, dispatcher: FakeDispatcher | None = None, **env: Any) -> Gateway:
    gateway = make_gateway(dispatcher, **env)
    gateway.state.keys = OneTenant(tenant)
    return gateway
