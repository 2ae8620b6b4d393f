"""Owns what was used, in the store: a row for each tenant, model and day, to which gateways add."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.gateway.store.tables import usage
from services.gateway.store.upserts import insert_into

CHUNK = 500  # rows a statement: SQLite takes 32,766 values
COUNTED = ("requests", "prompt_tokens", "completion_tokens", "images", "units")


@dataclass(frozen=True, slots=True)
class UsageRow:
    """`day` is in UTC, as 2026-01-31; `units` are the models' own measure of work."""

    tenant: str
    model: str
    day: str
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    images: int = 0
    units: float = 0.0

    @property
    def key(self) -> tuple[str, str, str]:
        return self.tenant, self.model, self.day

    def plus(self, other: UsageRow) -> UsageRow:
        """Both together, under this row's key."""
        return UsageRow(
            *self.key,
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.images + other.images,
            self.units + other.units,
        )


def day_of(seconds: float) -> str:
    """The day in UTC of a time in seconds since the epoch, as 2026-01-31."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def merged(rows: Iterable[UsageRow]) -> dict[tuple[str, str, str], UsageRow]:
    """One row a key."""
    found: dict[tuple[str, str, str], UsageRow] = {}
    for row in rows:
        found[row.key] = found[row.key].plus(row) if row.key in found else row
    return found


async def add_usage(connection: AsyncConnection, rows: Iterable[UsageRow]) -> None:
    """Add to what is there, in the caller's transaction."""
    by_key = merged(rows)
    ordered = [asdict(by_key[key]) for key in sorted(by_key)]  # in one order, so that no two writers wait in a circle
    for start in range(0, len(ordered), CHUNK):
        insert = insert_into(connection, usage).values(ordered[start : start + CHUNK])
        sums = {name: usage.c[name] + insert.excluded[name] for name in COUNTED}
        await connection.execute(insert.on_conflict_do_update(index_elements=["tenant", "model", "day"], set_=sums))


async def read_usage(
    connection: AsyncConnection, *, start: str, end: str, tenant: str | None = None, model: str | None = None
) -> Sequence[UsageRow]:
    """The rows from day `start` to day `end`, both counted, by tenant, model and day. None is all."""
    query = select(usage).where(usage.c.day.between(start, end))
    if tenant is not None:
        query = query.where(usage.c.tenant == tenant)
    if model is not None:
        query = query.where(usage.c.model == model)
    found = await connection.execute(query.order_by(usage.c.tenant, usage.c.model, usage.c.day))
    return [UsageRow(**row) for row in found.mappings()]


async def units_since(connection: AsyncConnection, day: str) -> Mapping[str, float]:
    """Units by tenant, from a day on."""
    query = select(usage.c.tenant, func.sum(usage.c.units)).where(usage.c.day >= day).group_by(usage.c.tenant)
    return {row.tenant: row[1] for row in await connection.execute(query)}
