"""Owns the order of a tenant's limits: the month's quota, the request's size, what a book counts. Never sees HTTP."""

from __future__ import annotations

from collections.abc import Callable

from limits.aio.storage import MemoryStorage

from services.gateway.limits.claims import UNITS, Claim, Refusal
from services.gateway.limits.failover import Failover
from services.gateway.limits.ledger import Book, Ledger
from services.gateway.limits.metrics import LimitMetrics
from services.gateway.limits.places import OwnPlaces, SharedPlaces
from services.gateway.limits.protocols import Charge, NoCharge
from services.gateway.limits.redis_storage import connect, counts_in
from services.gateway.limits.refusals import over_limit, quota_exhausted, too_large
from services.gateway.logs import Log
from services.gateway.tenants import Tenant
from shared.config.settings import Settings

QUOTA = "quota"


class TenantLimiter:
    """Admits what a tenant's limits allow; a tenant without limits costs nothing."""

    def __init__(
        self, book: Book, metrics: LimitMetrics, *, month_units: Callable[[str], float], now: Callable[[], float]
    ) -> None:
        """`month_units` is what a tenant, by name, has taken this month; `now` is in seconds since the epoch."""
        self._book = book
        self._metrics = metrics
        self._month_units = month_units
        self._now = now

    async def take(self, tenant: Tenant, *, request_id: str, units: float) -> Charge:
        """Raises RateLimited, or QuotaExhausted once the metered units have reached the quota."""
        await self._check_quota(tenant)
        await self._check_size(tenant, units)
        claim = Claim.of(tenant, request_id, units)
        if claim.is_free:
            return NoCharge()
        found = await self._book.take(claim)
        if isinstance(found, Refusal):
            self._metrics.refused(tenant.name, found.kind)
            raise over_limit(tenant, found)
        return found

    async def close(self) -> None:
        await self._book.close()

    async def _check_quota(self, tenant: Tenant) -> None:
        """What is in progress or not metered yet does not count, so that a month may end a little above its quota."""
        quota = tenant.units_per_month
        if quota is not None and (used := self._month_units(tenant.name)) >= quota:
            self._metrics.refused(tenant.name, QUOTA)
            headers = await self._book.look(Claim.of(tenant, "", 0))
            raise quota_exhausted(tenant, quota, used, self._now(), headers)

    async def _check_size(self, tenant: Tenant, units: float) -> None:
        limit = tenant.units_per_minute
        if limit is not None and units > limit:
            self._metrics.refused(tenant.name, UNITS)
            raise too_large(tenant, limit, units, await self._book.look(Claim.of(tenant, "", 0)))


def make_limiter(
    settings: Settings,
    log: Log,
    metrics: LimitMetrics,
    *,
    month_units: Callable[[str], float],
    now: Callable[[], float],
    clock: Callable[[], float],
) -> TenantLimiter:
    """Limits that all gateways share where the settings name a Redis, else this gateway's own.

    Raises ValueError for an address that is none.
    """
    own = Ledger(MemoryStorage(), OwnPlaces(), now=now)
    book: Book = own
    if settings.redis_url is not None:
        client = connect(settings.redis_url.get_secret_value())
        shared = Ledger(counts_in(client), SharedPlaces(client, longest_s=settings.timeout_s), now=now)
        book = Failover(shared, own, log, clock=clock, on_change=metrics.shared)
    elif settings.gateway_replicas > 1:
        log.warning("limits_not_shared", cause="CASTALIA_REDIS_URL is not set", gateways=settings.gateway_replicas)
    return TenantLimiter(book, metrics, month_units=month_units, now=now)
