"""Owns `/v1/usage`: what the caller's own tenant used. Every other tenant's is for operators, by `castalia usage`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime

from fastapi import APIRouter, Request

from services.gateway.queries import query_parameters, read_query
from services.gateway.record import record_of
from services.gateway.responses import read_responses
from services.gateway.state import GatewayState
from services.gateway.store.usage_rows import UsageRow, merged
from services.gateway.store_guard import needing_store
from shared.errors import InvalidRequest
from shared.schemas.usage import Grouping, UsageCounts, UsageEntry, UsageQuery, UsageReport

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
        start, end = _days(query, datetime.fromtimestamp(state.tempo.now(), UTC).date())
        tenant = record_of(request.scope).tenant.name
        with needing_store(state.log):
            async with asyncio.timeout(READ_S):
                rows = await state.usage.used(tenant, start=str(start), end=str(end), model=query.model)
        entries = [_entry(row) for row in _grouped(rows, query.group_by)]
        return UsageReport(tenant=tenant, start=start, end=end, data=entries, total=_total(rows))

    return router


def _days(query: UsageQuery, today: date) -> tuple[date, date]:
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
    return UsageEntry(
        day=date.fromisoformat(row.day) if row.day else None,
        model=row.model or None,
        requests=row.requests,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        images=row.images,
        units=row.units,
    )


def _total(rows: Iterable[UsageRow]) -> UsageCounts:
    total = UsageRow("", "", "")
    for row in rows:
        total = total.plus(row)
    return UsageCounts(
        requests=total.requests,
        prompt_tokens=total.prompt_tokens,
        completion_tokens=total.completion_tokens,
        images=total.images,
        units=total.units,
    )
