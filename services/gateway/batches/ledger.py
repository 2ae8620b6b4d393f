"""Owns a gateway's hold on batches, and the one result and one charge of every line. Nothing else writes them.

A gateway works on the batches that it has a lease of. Every write says whose lease it is written under, and changes
nothing under a lease that has gone to another: so however late a gateway's write comes, it never counts twice. What it
wrote into files of its own by then counts for nothing: `finish` names the files that are the batch's.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.gateway.batches.book import Batch
from services.gateway.files import UNFINISHED, File, add_files
from services.gateway.store.database import Store
from services.gateway.store.tables import batch_results, batches
from services.gateway.store.upserts import insert_into
from services.gateway.store.usage_rows import UsageRow, add_usage
from shared.schemas.batches import BatchError, BatchStatus

SUCCESS = range(200, 300)
MOST_OF_A_TENANT = 8  # batches that a gateway works on at once
_NOTHING: Mapping[str, int] = MappingProxyType({})
PORTION = 4 * 2**20  # characters of results that are read at once


class LeaseLost(Exception):
    """Another gateway works on the batch by now, or it has ended."""


@dataclass(frozen=True, slots=True)
class Result:
    """Of one line: the HTTP status of its answer, and what the output or error file will say."""

    line: int
    status: int
    text: str

    @property
    def succeeded(self) -> bool:
        return self.status in SUCCESS


class Ledger:
    """One gateway's. Raises `STORE_FAILURES` where the store is down."""

    def __init__(self, store: Store, *, lease_s: float, now: Callable[[], float]) -> None:
        self._store = store
        self._lease_s = lease_s
        self._now = now
        self._owner = secrets.token_hex(16)

    async def claim(
        self, room: int, *, held: Mapping[str, int] = _NOTHING, most: int = MOST_OF_A_TENANT
    ) -> Sequence[Batch]:
        """Lease up to `room` batches that nobody works on, of those tenants first that have the fewest here.

        `held` is how many each has. None gets more than `most`, and one that has none gets one though there be no room.
        """
        now = self._now()
        is_free = and_(
            batches.c.status.in_(UNFINISHED), or_(batches.c.lease_until.is_(None), batches.c.lease_until <= now)
        )
        turn = func.row_number().over(partition_by=batches.c.tenant, order_by=(batches.c.created_at, batches.c.id))
        turns = (
            select(batches.c.id, batches.c.tenant, batches.c.created_at, turn.label("turn")).where(is_free).subquery()
        )
        async with self._store.read() as connection:
            free = (await connection.execute(select(turns).where(turns.c.turn <= most))).all()
        ranks = {row.id: (held.get(row.tenant, 0) + row.turn, row.created_at, row.id) for row in free}
        order = sorted((batch_id for batch_id, rank in ranks.items() if rank[0] <= most), key=ranks.__getitem__)
        claimed: list[Batch] = []
        for batch_id in order:
            if len(claimed) >= room and ranks[batch_id][0] > 1:
                break
            async with self._store.begin() as connection:
                taking = update(batches).where(batches.c.id == batch_id, is_free).values(self._lease())
                if (await connection.execute(taking)).rowcount:
                    claimed.append(await _read(connection, batch_id))
        return claimed

    async def renew(self, held: Collection[str]) -> Mapping[str, Batch]:
        """Keep the leases of these batches; gives those that are still held, as they are now."""
        mine = and_(batches.c.id.in_(held), batches.c.lease_owner == self._owner)
        async with self._store.begin() as connection:
            await connection.execute(update(batches).where(mine).values(self._lease()))
            rows = (await connection.execute(select(batches).where(mine))).mappings().all()
        return {row["id"]: Batch.of(row) for row in rows}

    async def release(self, held: Collection[str], *, rest_s: float | None = None) -> None:
        """Leave these batches to others, at once or after a rest."""
        until = None if rest_s is None else self._now() + rest_s
        async with self._store.begin() as connection:
            mine = and_(batches.c.id.in_(held), batches.c.lease_owner == self._owner)
            await connection.execute(update(batches).where(mine).values(lease_owner=None, lease_until=until))

    async def begin(self, batch_id: str, total: int) -> Batch:
        """The input is valid. Gives the batch as it is then: in progress, or cancelling. Raises LeaseLost."""
        values = {"status": "in_progress", "total": total, "in_progress_at": self._now()}
        return await self._advance(batch_id, ("validating",), values)

    async def fail(self, batch_id: str, errors: Sequence[BatchError]) -> Batch:
        """The input is not valid, or gone, and what there is of its results goes. Raises LeaseLost."""
        values = {
            "status": "failed",
            "errors": [error.model_dump() for error in errors],
            "failed_at": self._now(),
            **_NO_LEASE,
        }
        return await self._advance(batch_id, UNFINISHED, values, forgets=True)

    async def recorded(self, batch_id: str) -> set[int]:
        """The numbers of the lines that have their result."""
        async with self._store.read() as connection:
            query = select(batch_results.c.line).where(batch_results.c.batch == batch_id)
            return set((await connection.scalars(query)).all())

    async def record(self, batch_id: str, result: Result, used: UsageRow | None) -> None:
        """Keep a line's result and charge what it used, both or neither; nothing if the line has a result already.

        Raises LeaseLost.
        """
        counts = {
            "completed": batches.c.completed + int(result.succeeded),
            "failed": batches.c.failed + int(not result.succeeded),
            "prompt_tokens": batches.c.prompt_tokens + (used.prompt_tokens if used else 0),
            "completion_tokens": batches.c.completion_tokens + (used.completion_tokens if used else 0),
        }
        row = {"batch": batch_id, "line": result.line, "status": result.status, "result": result.text}
        async with self._store.begin() as connection:
            # The batch's row first: it is locked until the end, so that no other gateway takes it over on the way.
            await self._check_lease(connection, batch_id, ("in_progress", "cancelling"))
            adding = insert_into(connection, batch_results).values(row).on_conflict_do_nothing()
            if not (await connection.execute(adding)).rowcount:
                return
            await connection.execute(update(batches).where(batches.c.id == batch_id).values(counts))
            if used is not None:
                await add_usage(connection, [used])

    async def close(self, batch_id: str) -> Batch:
        """No line is run any more. Gives the batch as it is then: finalizing, or cancelling. Raises LeaseLost."""
        values = {"status": "finalizing", "finalizing_at": self._now()}
        return await self._advance(batch_id, ("validating", "in_progress"), values)

    async def results(self, batch_id: str, first: int, last: int) -> AsyncGenerator[Result]:
        """Those of the lines from number `first` to `last`, both included, in order. Few of them are held at once."""
        mine = batch_results.c.batch == batch_id
        sizes = select(batch_results.c.line, func.length(batch_results.c.result)).where(
            mine, batch_results.c.line.between(first, last)
        )
        async with self._store.read() as connection:
            found = (await connection.execute(sizes.order_by(batch_results.c.line))).all()
        for start, end in _portions([(row[0], row[1]) for row in found]):
            query = select(batch_results).where(mine, batch_results.c.line.between(start, end))
            async with self._store.read() as connection:
                rows = (await connection.execute(query.order_by(batch_results.c.line))).all()
            for row in rows:
                yield Result(row.line, row.status, row.result)

    async def finish(self, batch_id: str, ending: BatchStatus, *, output: File | None, error: File | None) -> None:
        """The batch has ended, and its files are there. Its results are in them, and go. Raises LeaseLost."""
        values = {
            "status": ending,
            f"{ending}_at": self._now(),
            "output_file_id": output and output.id,
            "error_file_id": error and error.id,
            **_NO_LEASE,
        }
        async with self._store.begin() as connection:
            await self._check_lease(connection, batch_id, ("finalizing", "cancelling"))
            await add_files(connection, [file for file in (output, error) if file is not None])
            await connection.execute(update(batches).where(batches.c.id == batch_id).values(values))
            await connection.execute(delete(batch_results).where(batch_results.c.batch == batch_id))

    async def _advance(
        self, batch_id: str, statuses: Collection[BatchStatus], values: Mapping[str, Any], *, forgets: bool = False
    ) -> Batch:
        """Change a batch of these statuses; one that was cancelled meanwhile stays as it is. Raises LeaseLost."""
        async with self._store.begin() as connection:
            await self._check_lease(connection, batch_id, UNFINISHED)
            here = and_(batches.c.id == batch_id, batches.c.status.in_(statuses))
            await connection.execute(update(batches).where(here).values(values))
            if forgets:
                await connection.execute(delete(batch_results).where(batch_results.c.batch == batch_id))
            return await _read(connection, batch_id)

    async def _check_lease(self, connection: AsyncConnection, batch_id: str, statuses: Collection[BatchStatus]) -> None:
        """Renew the lease, which locks the batch's row until the transaction ends. Raises LeaseLost."""
        mine = and_(batches.c.id == batch_id, batches.c.lease_owner == self._owner, batches.c.status.in_(statuses))
        if not (await connection.execute(update(batches).where(mine).values(self._lease()))).rowcount:
            raise LeaseLost(batch_id)

    def _lease(self) -> dict[str, Any]:
        return {"lease_owner": self._owner, "lease_until": self._now() + self._lease_s}


_NO_LEASE: Mapping[str, None] = {"lease_owner": None, "lease_until": None}


def _portions(sizes: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The first and the last line of portions that have so many characters, or one line."""
    first, total = 0, 0
    for place, (line, size) in enumerate(sizes):
        total += size
        if place + 1 == len(sizes) or total + sizes[place + 1][1] > PORTION:
            yield sizes[first][0], line
            first, total = place + 1, 0


async def _read(connection: AsyncConnection, batch_id: str) -> Batch:
    row = (await connection.execute(select(batches).where(batches.c.id == batch_id))).mappings().one()
    return Batch.of(row)
