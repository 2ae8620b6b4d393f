"""Owns what a request claims of its tenant's limits, and how that is answered. Never sees a clock or a storage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.gateway.tenants import Tenant

WINDOW_S = 60
REQUESTS, UNITS, CONCURRENCY = "requests", "units", "concurrency"
_ON_THE_WIRE = {REQUESTS: "requests", UNITS: "tokens"}  # OpenAI's names: tokens are what it counts


@dataclass(frozen=True, slots=True)
class Budget:
    """How much of a kind a tenant may take in a minute, and how much of it one request claims."""

    kind: str
    limit: int
    cost: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What one request needs to be admitted. `concurrency` None needs no place."""

    tenant: str
    request_id: str
    budgets: tuple[Budget, ...]
    concurrency: int | None

    @classmethod
    def of(cls, tenant: Tenant, request_id: str, units: float) -> Claim:
        """Of a request that may take so many units; a part of one counts as a whole one."""
        budgets: list[Budget] = []
        if tenant.requests_per_minute is not None:
            budgets.append(Budget(REQUESTS, tenant.requests_per_minute, 1))
        if tenant.units_per_minute is not None:
            budgets.append(Budget(UNITS, tenant.units_per_minute, math.ceil(units)))
        return cls(tenant.name, request_id, tuple(budgets), tenant.concurrency)

    @property
    def is_free(self) -> bool:
        """Whether there is nothing to count."""
        return not self.budgets and self.concurrency is None


@dataclass(frozen=True, slots=True)
class Standing:
    """How much of a budget has been taken in this minute."""

    budget: Budget
    used: int

    @property
    def is_over(self) -> bool:
        return self.used > self.budget.limit


@dataclass(frozen=True, slots=True)
class Refusal:
    """A claim beyond a limit; nothing of it was taken. `room_in_s` is how long until there is room, in seconds."""

    kind: str
    limit: int
    used: int
    wanted: int
    room_in_s: float
    headers: Mapping[str, str]


def limit_headers(standings: Sequence[Standing], reset_s: float) -> dict[str, str]:
    """`x-ratelimit-*` as OpenAI has them, of the budgets that there are. `reset_s` is when their minute ends."""
    headers: dict[str, str] = {}
    for standing in standings:
        name = _ON_THE_WIRE[standing.budget.kind]
        headers[f"x-ratelimit-limit-{name}"] = str(standing.budget.limit)
        headers[f"x-ratelimit-remaining-{name}"] = str(max(0, standing.budget.limit - standing.used))
        headers[f"x-ratelimit-reset-{name}"] = duration(reset_s)
    return headers


def duration(seconds: float) -> str:
    """As OpenAI writes it: `12ms` below a second, else `1s` or `6m0s`, rounded up."""
    if seconds <= 0.999:
        return f"{max(0, math.ceil(seconds * 1e3))}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
