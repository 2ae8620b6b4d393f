"""Owns what the gateway asks of its limits. Never sees HTTP, or where counts are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from services.gateway.tenants import Tenant


class Charge(Protocol):
    """What one admitted request took of its tenant's limits."""

    @property
    def headers(self) -> Mapping[str, str]:
        """`x-ratelimit-*`, as they stand after this request."""
        ...

    async def settle(self, units: float | None) -> None:
        """The request has ended: free its place, and correct the units that it took. None keeps the estimate.

        Called once, whatever happened. Never raises.
        """
        ...


class Limiter(Protocol):
    """Counts what tenants use, here or together with other gateways."""

    async def take(self, tenant: Tenant, *, request_id: str, units: float) -> Charge:
        """Admit a request that may cost so many units. Raises RateLimited, whose `headers` say how things stand."""
        ...

    async def close(self) -> None: ...


class NoCharge:
    """Of a request that no limit applies to."""

    headers: Mapping[str, str] = {}

    async def settle(self, units: float | None) -> None:
        """Nothing was taken."""
