"""Owns batches as their tenants see them: create, read, list, cancel. Every tenant sees its own alone."""

from __future__ import annotations

import dataclasses
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.gateway.files import UNFINISHED, lock_file, page_of
from services.gateway.store.database import Store
from services.gateway.store.tables import batches, files
from shared.errors import Conflict, InvalidRequest, NotFound, RateLimited
from shared.schemas.batches import (
    WINDOW_S,
    BatchObject,
    BatchQuery,
    BatchRequest,
    BatchStatus,
    BatchUsage,
    RequestCounts,
)

BATCH_ID = re.compile(r"batch_[0-9a-f]{32}")
MOST_UNFINISHED = 100  # batches of a tenant
RETRY_S = 60.0  # when one of them may have ended
MOMENTS = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


@dataclass(frozen=True, slots=True)
class Batch:
    """A row of the table. Times are seconds since the epoch; `completed` and `failed` count lines with a result."""

    id: str
    tenant: str
    endpoint: str
    input_file_id: str
    output_file_id: str | None
    error_file_id: str | None
    completion_window: str
    status: BatchStatus
    metadata: dict[str, str] | None
    errors: list[dict[str, Any]] | None
    output_expires_s: int | None
    total: int
    completed: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    created_at: float
    expires_at: float
    moments: Mapping[str, float | None]  # when it came to each of MOMENTS

    @property
    def ending(self) -> Literal["cancelled", "completed", "expired"]:
        """How the batch ends, of one whose lines are run no more."""
        if self.status == "cancelling":
            return "cancelled"
        return "completed" if 0 < self.total == self.completed + self.failed else "expired"

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> Batch:
        known = {field.name: row[field.name] for field in dataclasses.fields(cls) if field.name != "moments"}
        return cls(**known, moments={name: row[f"{name}_at"] for name in MOMENTS})

    def shown(self) -> BatchObject:
        counts = RequestCounts(total=self.total, completed=self.completed, failed=self.failed)
        tokens = (self.prompt_tokens, self.completion_tokens)
        return BatchObject.model_validate(
            {
                "id": self.id,
                "endpoint": self.endpoint,
                "errors": None if self.errors is None else {"data": self.errors},
                "input_file_id": self.input_file_id,
                "completion_window": self.completion_window,
                "status": self.status,
                "output_file_id": self.output_file_id,
                "error_file_id": self.error_file_id,
                "created_at": int(self.created_at),
                "expires_at": int(self.expires_at),
                "request_counts": counts,
                "usage": BatchUsage(input_tokens=tokens[0], output_tokens=tokens[1], total_tokens=sum(tokens)),
                "metadata": self.metadata,
                **{f"{name}_at": None if at is None else int(at) for name, at in self.moments.items()},
            }
        )


class BatchBook:
    """All batches. Raises `STORE_FAILURES` where the store is down."""

    def __init__(self, store: Store, *, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now

    async def create(self, tenant: str, request: BatchRequest) -> Batch:
        """Raises InvalidRequest if the input file is not one that a batch can read, and RateLimited."""
        batch_id, now = f"batch_{secrets.token_hex(16)}", self._now()
        lifetime = request.output_expires_after
        async with self._store.begin() as connection:
            await self._check_input(connection, tenant, request.input_file_id)
            await self._check_room(connection, tenant)
            values = {
                "id": batch_id,
                "tenant": tenant,
                "endpoint": request.endpoint,
                "input_file_id": request.input_file_id,
                "completion_window": request.completion_window,
                "status": "validating",
                "metadata": request.metadata,
                "output_expires_s": None if lifetime is None else lifetime.seconds,
                "created_at": now,
                "expires_at": now + WINDOW_S,
                **dict.fromkeys(("total", "completed", "failed", "prompt_tokens", "completion_tokens"), 0),
            }
            await connection.execute(insert(batches).values(values))
            return await _read(connection, tenant, batch_id)

    async def find(self, tenant: str, batch_id: str) -> Batch:
        """Raises NotFound, for another's batch as well."""
        async with self._store.read() as connection:
            return await _read(connection, tenant, batch_id)

    async def page(self, tenant: str, query: BatchQuery) -> tuple[Sequence[Batch], bool]:
        """A page of the tenant's batches, and whether more follow. Raises InvalidRequest for an unknown `after`."""
        chosen = select(batches).where(batches.c.tenant == tenant)
        async with self._store.read() as connection:
            rows, has_more = await page_of(connection, chosen, limit=query.limit, after=query.after, newest_first=True)
        return [Batch.of(row) for row in rows], has_more

    async def cancel(self, tenant: str, batch_id: str) -> Batch:
        """Have the batch end with what it has. Raises NotFound, and Conflict if it has ended or is about to."""
        stops = update(batches).where(
            batches.c.id == batch_id,
            batches.c.tenant == tenant,
            batches.c.status.in_(("validating", "in_progress")),
        )
        async with self._store.begin() as connection:
            await connection.execute(stops.values(status="cancelling", cancelling_at=self._now()))
            batch = await _read(connection, tenant, batch_id)
        if batch.status not in ("cancelling", "cancelled"):
            raise Conflict(f"A batch whose status is '{batch.status}' cannot be cancelled.", param="batch_id")
        return batch

    async def _check_room(self, connection: AsyncConnection, tenant: str) -> None:
        query = select(func.count()).where(batches.c.tenant == tenant, batches.c.status.in_(UNFINISHED))
        if (await connection.scalar(query) or 0) >= MOST_UNFINISHED:
            message = f"Tenant '{tenant}' may have {MOST_UNFINISHED} batches that have not ended, and has them."
            raise RateLimited(message, retry_after=RETRY_S)

    async def _check_input(self, connection: AsyncConnection, tenant: str, file_id: str) -> None:
        try:
            await lock_file(connection, tenant, file_id)
        except NotFound:
            raise _bad_input("There is no file of this id.") from None
        file = (await connection.execute(select(files).where(files.c.id == file_id))).one()
        if file.expires_at is not None and file.expires_at <= self._now():
            raise _bad_input("There is no file of this id.")
        if file.purpose != "batch":
            raise _bad_input(f"A batch reads files whose purpose is 'batch'; got '{file.purpose}'.")


async def _read(connection: AsyncConnection, tenant: str, batch_id: str) -> Batch:
    query = select(batches).where(batches.c.id == batch_id, batches.c.tenant == tenant)
    row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        raise NotFound("There is no such batch.", param="batch_id")
    return Batch.of(row)


def _bad_input(message: str) -> InvalidRequest:
    return InvalidRequest(message, param="input_file_id")
