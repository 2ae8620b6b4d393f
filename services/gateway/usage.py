"""Owns the metering of usage: added up in memory as requests end, and written to the store every few seconds.

No request waits for the store. A gateway that dies loses what it has not written: `CASTALIA_USAGE_FLUSH_S` seconds at
most while the store answers. What the store does not take is kept, and is bounded: it adds up by tenant, model and
day. A store that takes a write and is lost before it can say so is given it again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from services.gateway.logs import Log
from services.gateway.record import Record
from services.gateway.store.database import Store, cause_of
from services.gateway.store.usage_rows import UsageRow, add_usage, day_of, merged, read_usage, units_since

WRITE_S = 10.0  # a store that is slower counts as one that failed
LAST_WRITE_S = 5.0  # as the gateway ends
Key = tuple[str, str, str]
TenantMonth = tuple[str, str]  # a month as 2026-01


def usage_row(record: Record, day: str) -> UsageRow | None:
    """What a request used; None if it was refused or failed before any work was done for it.

    Units are those of the rows that ended well. A text call that failed, was cut or was left on the way is charged at
    least the tokens, of prompt and answer, that its client was sent; other calls' unfinished rows are charged nothing.
    """
    units = record.work or 0.0
    if record.model is None or not (record.ended_well or units):
        return None
    return UsageRow(
        record.tenant.name,
        record.model,
        day,
        requests=1,
        prompt_tokens=record.prompt_tokens,
        completion_tokens=record.completion_tokens,
        images=record.images,
        units=units,
    )


class UsageMeter:
    """Adds up what tenants use here, and knows what they have used everywhere this month."""

    def __init__(self, store: Store, log: Log, *, flush_s: float, now: Callable[[], float]) -> None:
        self._store = store
        self._log = log
        self._flush_s = flush_s
        self._now = now
        self._pending: dict[Key, UsageRow] = {}
        self._turn = asyncio.Lock()  # of who writes, or reads what was written and what waits as one
        self._writes: set[asyncio.Task[None]] = set()
        self._is_failing = False
        self._task: asyncio.Task[None] | None = None
        # The month's units: what the store said last, what was added here since, and what of that is written by now.
        self._month = ""
        self._stored: Mapping[str, float] = {}
        self._added: defaultdict[TenantMonth, float] = defaultdict(float)
        self._written: defaultdict[TenantMonth, float] = defaultdict(float)

    def add(self, record: Record) -> None:
        """Count a request that has ended. A batch counts its lines itself."""
        if record.is_batch_line:
            return
        row = usage_row(record, day_of(self._now()))
        if row is not None:
            self._keep([row])
            self._added[row.tenant, _month_of(row.day)] += row.units

    def month_units(self, tenant: str) -> float:
        """What the tenant used this month, in UTC: by all gateways a few seconds ago, and by this one until now."""
        month = _month_of(day_of(self._now()))
        stored = self._stored.get(tenant, 0.0) if self._month == month else 0.0
        return stored + self._added.get((tenant, month), 0.0)

    async def start(self) -> None:
        """Raises `STORE_FAILURES`: a gateway does not start without knowing what was used."""
        await self._learn()
        self._task = asyncio.create_task(self._repeat())

    async def close(self) -> None:
        """Write what is left, if the store takes it."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        try:
            async with asyncio.timeout(LAST_WRITE_S):
                await self.flush()
        except Exception as error:
            for write in self._writes:
                write.cancel()
            await asyncio.gather(*self._writes, return_exceptions=True)
            self._log.error("usage_lost", rows=len(self._pending), cause=cause_of(error))

    async def flush(self) -> None:
        """Write all that was added before the call. Raises `STORE_FAILURES`, and then has kept it.

        A caller that is cancelled cuts no write: nobody would know whether it counts.
        """
        write = asyncio.create_task(self._write())
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)
        await asyncio.shield(write)

    async def used(self, tenant: str | None, *, start: str, end: str, model: str | None) -> Sequence[UsageRow]:
        """A tenant's rows from day `start` to day `end`: what the store has and what waits here. Writes nothing.

        None is all tenants, or all models. Raises `STORE_FAILURES`.
        """
        async with self._turn:
            async with self._store.read() as connection:
                rows = await read_usage(connection, start=start, end=end, tenant=tenant, model=model)
            waiting = [
                row
                for row in self._pending.values()
                if tenant in (None, row.tenant) and start <= row.day <= end and model in (None, row.model)
            ]
        return list(merged([*rows, *waiting]).values())

    async def _write(self) -> None:
        async with self._turn:
            rows, self._pending = self._pending, {}
            try:
                if rows:
                    async with asyncio.timeout(WRITE_S), self._store.begin() as connection:
                        await add_usage(connection, rows.values())
            except BaseException:  # cancelled as well
                self._keep(rows.values())
                raise
            for row in rows.values():
                self._written[row.tenant, _month_of(row.day)] += row.units
            await self._learn()

    async def _learn(self) -> None:
        """Read the month's units, and count no longer what they hold: all that was written before."""
        month = _month_of(day_of(self._now()))
        async with asyncio.timeout(WRITE_S), self._store.read() as connection:
            stored = await units_since(connection, f"{month}-01")
        self._month, self._stored = month, stored
        for key, units in self._written.items():
            self._added[key] -= units
        waiting = {(row.tenant, _month_of(row.day)) for row in self._pending.values()}
        self._added = defaultdict(float, {key: units for key, units in self._added.items() if key in waiting})
        self._written.clear()

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(self._flush_s)
            try:
                await self.flush()
            except Exception as error:  # whatever it is, what was added is kept, and is tried again
                if not self._is_failing:
                    self._log.error("usage_not_written", rows=len(self._pending), cause=cause_of(error))
                self._is_failing = True
            else:
                self._is_failing = False

    def _keep(self, rows: Iterable[UsageRow]) -> None:
        for row in rows:
            known = self._pending.get(row.key)
            self._pending[row.key] = row if known is None else known.plus(row)


def _month_of(day: str) -> str:
    return day[:7]
