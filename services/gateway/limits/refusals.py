"""Owns what a tenant beyond its limits is told. Never counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from services.gateway.limits.claims import CONCURRENCY, REQUESTS, WINDOW_S, Refusal
from services.gateway.tenants import Tenant
from shared.errors import QuotaExhausted, RateLimited

DO_NOT_RETRY = {"x-should-retry": "false"}  # the official client obeys it


def over_limit(tenant: Tenant, refusal: Refusal) -> RateLimited:
    """There will be room for this request."""
    may = f"Tenant '{tenant.name}' may"
    then = f"the next minute begins in {math.ceil(refusal.room_in_s)} s."
    if refusal.kind == CONCURRENCY:
        message = f"{may} have {refusal.limit:,} requests in progress at once, and has them."
    elif refusal.kind == REQUESTS:
        message = f"{may} make {refusal.limit:,} requests a minute, and has made them; {then}"
    else:
        taken = f"{refusal.used:,} are taken, and this request may need {refusal.wanted:,}"
        message = f"{may} take {refusal.limit:,} units a minute: {taken}; {then}"
    return RateLimited(message, retry_after=refusal.room_in_s, headers=refusal.headers)


def too_large(tenant: Tenant, limit: int, units: float, headers: Mapping[str, str]) -> RateLimited:
    """There will never be room for this request."""
    message = (
        f"This request may need {units:,.0f} units, and tenant '{tenant.name}' may take {limit:,} a minute: "
        "ask for less at once."
    )
    return RateLimited(message, retry_after=WINDOW_S, headers={**headers, **DO_NOT_RETRY})


def quota_exhausted(tenant: Tenant, quota: int, used: float, now: float, headers: Mapping[str, str]) -> QuotaExhausted:
    """`now` is in seconds since the epoch; months are those of UTC."""
    today = datetime.fromtimestamp(now, UTC)
    renewal = datetime(today.year + today.month // 12, today.month % 12 + 1, 1, tzinfo=UTC)
    message = (
        f"Tenant '{tenant.name}' may take {quota:,} units a month, and has taken {used:,.0f}; "
        f"the quota is renewed on {renewal:%Y-%m-%d}."
    )
    return QuotaExhausted(message, retry_after=renewal.timestamp() - now, headers={**headers, **DO_NOT_RETRY})
