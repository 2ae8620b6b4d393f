"""Owns `/v1/usage`: what the caller's own tenant used; and for operators, what every tenant did."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from fastapi import APIRouter, Request

from services.gateway.answer_docs import read_responses
from services.gateway.queries import query_parameters, read_query
from services.gateway.record import record_of
from services.gateway.state import GatewayState
from services.gateway.store.usage_rows import COUNTED, UsageRow, merged
from services.gateway.store_guard import needing_store
from shared.errors import InvalidRequest
from shared.schemas.usage import (
    Grouping,
    TenantsUsage,
    TenantUsage,
    UsageCounts,
    UsageEntry,
    UsagePeriod,
    UsageQuery,
    UsageReport,
)

MAX_DAYS = 366
READ_S = 5.0


def usage_router(state: GatewayState) -> APIRouter:
    router = APIRouter(tags=["usage"])

    @router.get(
        "/v1/usage",
        summary="What your tenant used",
        responses=read_responses(400, 503),
        openapi_extra={"parameters": query_parameters(UsageQuery)},
    )
    async def usage(request: Request) -> UsageReport:
        query = read_query(request, UsageQuery)
        tenant = record_of(request.scope).tenant.name
        start, end, rows = await _used(state, tenant, query)
        entries = [_entry(row) for row in _grouped(rows, query.group_by)]
        return UsageReport(tenant=tenant, start=start, end=end, data=entries, total=_total(rows))

    @router.get(
        "/v1/usage/tenants",
        summary="What every tenant used",
        responses=read_responses(400, 403, 503),
        openapi_extra={"parameters": query_parameters(UsagePeriod)},
    )
    async def usage_of_tenants(request: Request) -> TenantsUsage:
        record_of(request.scope).tenant.check_operator()
        start, end, rows = await _used(state, None, read_query(request, UsagePeriod))
        by_tenant = merged(replace(row, model="", day="") for row in rows)
        entries = [TenantUsage(tenant=row.tenant, **_counts(row)) for _, row in sorted(by_tenant.items())]
        return TenantsUsage(start=start, end=end, data=entries, total=_total(rows))

    return router


async def _used(state: GatewayState, tenant: str | None, period: UsagePeriod) -> tuple[date, date, Sequence[UsageRow]]:
    """The first and the last day, and what was used from one to the other. Raises InvalidRequest, StoreUnavailable."""
    start, end = _days(period, datetime.fromtimestamp(state.tempo.now(), UTC).date())
    with needing_store(state.log):
        async with asyncio.timeout(READ_S):
            return start, end, await state.usage.used(tenant, start=str(start), end=str(end), model=period.model)


def _days(query: UsagePeriod, today: date) -> tuple[date, date]:
    """The first and the last day. Raises InvalidRequest."""
    end = query.end or today
    start = query.start or end.replace(day=1)
    if start > end:
        raise InvalidRequest(f"The first day, {start}, must not be after the last, {end}.", param="start")
    if (end - start).days >= MAX_DAYS:
        raise InvalidRequest(f"At most {MAX_DAYS} days at once; got {(end - start).days + 1}.", param="start")
    return start, end


def _grouped(rows: Iterable[UsageRow], group_by: Grouping | None) -> list[UsageRow]:
    """By day and then by model; an empty day or model stands for all of them."""
    if group_by == "day":
        rows = [replace(row, model="") for row in rows]
    elif group_by == "model":
        rows = [replace(row, day="") for row in rows]
    return sorted(merged(rows).values(), key=lambda row: (row.day, row.model))


def _entry(row: UsageRow) -> UsageEntry:
    return UsageEntry(day=date.fromisoformat(row.day) if row.day else None, model=row.model or None, **_counts(row))


def _total(rows: Iterable[UsageRow]) -> UsageCounts:
    total = UsageRow("", "", "")
    for row in rows:
        total = total.plus(row)
    return UsageCounts(**_counts(total))


def _counts(row: UsageRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in COUNTED}
