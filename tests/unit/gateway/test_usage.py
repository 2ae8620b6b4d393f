"""Metering: what a request is charged, and that none is lost or counted twice."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncConnection

from services.gateway.logs import make_log
from services.gateway.record import Record
from services.gateway.store.database import STORE_FAILURES, Store
from services.gateway.store.migrating import migrate
from services.gateway.store.usage_rows import UsageRow, add_usage, day_of, read_usage
from services.gateway.tenants import Tenant
from services.gateway.usage import UsageMeter, usage_row
from tests.store_suite import Clock
from tests.unit.gateway.fakes import MODEL, OTHER
from tests.unit.gateway.store_faults import bring_back, take_away

CHAT = "/v1/chat/completions"
DAY = "2023-11-14"  # of the clocks of these tests


def record(tenant: str = "alice", *, model: str | None = MODEL, status: int = 200, **fields: Any) -> Record:
    return Record("req_1", "POST", CHAT, 0.0, tenant=Tenant(tenant), model=model, status=status, **fields)


class Meter(UsageMeter):
    """Flushed by hand, on a clock moved by hand."""

    def __init__(self, store: Store) -> None:
        self.clock = Clock()
        self.log = io.StringIO()
        super().__init__(store, make_log("INFO", self.log), flush_s=3600.0, now=self.clock)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[Store]:
    store = Store(f"sqlite:///{tmp_path}/store.db")
    await migrate(store)
    yield store
    await store.close()


@pytest.fixture
def meter(store: Store) -> Meter:
    return Meter(store)


async def written(store: Store) -> list[UsageRow]:
    async with store.read() as connection:
        return list(await read_usage(connection, start="2000-01-01", end="2100-01-01"))


@pytest.mark.parametrize(
    ("fields", "units"),
    [
        ({"units": 9.0, "prompt_tokens": 5, "completion_tokens": 4}, 9.0),
        ({"units": 0.0}, 0.0),  # answered, if by nothing
        ({"units": 0.0, "prompt_tokens": 5, "completion_tokens": 2, "cut": True}, 7.0),
        ({"units": 9.0, "prompt_tokens": 5, "completion_tokens": 2, "cut": True}, 9.0),
        ({"prompt_tokens": 5, "completion_tokens": 1, "status": 499}, 6.0),
    ],
)
def test_a_request_is_charged_for_the_work_that_was_done(fields: dict[str, Any], units: float) -> None:
    row = usage_row(record(**fields), DAY)
    assert row is not None
    assert (row.requests, row.units) == (1, units)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 499, 500, 503, 504])
def test_a_request_that_was_refused_is_no_usage(status: int) -> None:
    assert usage_row(record(status=status), DAY) is None


def test_a_request_that_asked_no_model_is_no_usage() -> None:
    assert usage_row(record(model=None), DAY) is None


async def test_requests_add_up_by_tenant_model_and_day(meter: Meter, store: Store) -> None:
    for _ in range(3):
        meter.add(record(units=2.0, prompt_tokens=1, completion_tokens=1))
    meter.add(record("bob", model=OTHER, images=2, units=5.0))
    meter.clock.seconds += 86400
    meter.add(record(units=1.0))
    await meter.flush()
    next_day = day_of(meter.clock.seconds)
    assert await written(store) == [
        UsageRow("alice", MODEL, DAY, 3, 3, 3, 0, 6.0),
        UsageRow("alice", MODEL, next_day, 1, 0, 0, 0, 1.0),
        UsageRow("bob", OTHER, DAY, 1, 0, 0, 2, 5.0),
    ]


async def test_a_line_of_a_batch_is_left_to_its_batch(meter: Meter, store: Store) -> None:
    meter.add(record(units=2.0, is_batch_line=True))
    await meter.flush()
    assert await written(store) == []
    assert meter.month_units("alice") == 0


async def test_a_store_that_fails_keeps_everything_for_the_next_time(meter: Meter, store: Store) -> None:
    meter.add(record(units=2.0))
    await take_away(store, "usage")
    with pytest.raises(STORE_FAILURES):
        await meter.flush()
    meter.add(record(units=3.0))
    assert meter.month_units("alice") == 5.0
    await bring_back(store, "usage")
    await meter.flush()
    assert [row.units for row in await written(store)] == [5.0]
    assert meter.month_units("alice") == 5.0


class SlowStore(Store):
    """Says when a write counts, and lets its writer wait for more."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.has_written, self.goes_on = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def begin(self) -> AsyncGenerator[AsyncConnection]:
        async with super().begin() as connection:
            yield connection
        self.has_written.set()
        await self.goes_on.wait()


async def test_a_flush_that_is_cancelled_as_it_commits_counts_once(store: Store) -> None:
    slow = SlowStore(str(store.url))
    meter = Meter(slow)
    meter.add(record(units=2.0))
    task = asyncio.create_task(meter.flush())
    await slow.has_written.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    slow.goes_on.set()
    await meter.flush()
    assert [row.units for row in await written(store)] == [2.0]
    assert meter.month_units("alice") == 2.0
    await slow.close()


async def test_what_waits_here_is_read_with_what_is_written_and_reading_writes_nothing(
    meter: Meter, store: Store
) -> None:
    meter.add(record(units=2.0))
    await meter.flush()
    meter.add(record(units=3.0))
    meter.add(record(model=OTHER, units=50.0))
    meter.add(record("bob", units=100.0))
    rows = await meter.used("alice", start=DAY, end=DAY, model=MODEL)
    assert [(row.tenant, row.model, row.requests, row.units) for row in rows] == [("alice", MODEL, 2, 5.0)]
    assert len(await meter.used("alice", start=DAY, end=DAY, model=None)) == 2
    assert await meter.used("alice", start="2023-01-01", end="2023-01-02", model=None) == []
    assert [row.units for row in await written(store)] == [2.0]


async def test_a_flush_that_is_cancelled_loses_nothing(meter: Meter, store: Store) -> None:
    meter.add(record(units=2.0))
    async with store.begin():  # whoever else writes has to wait
        task = asyncio.create_task(meter.flush())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    await meter.flush()
    assert [row.units for row in await written(store)] == [2.0]


async def test_the_months_units_hold_what_others_wrote_and_what_waits_here(meter: Meter, store: Store) -> None:
    async with store.begin() as connection:
        rows = [UsageRow("alice", OTHER, "2023-11-01", units=10.0), UsageRow("alice", OTHER, "2023-10-31", units=99.0)]
        await add_usage(connection, rows)
    await meter.start()
    meter.add(record(units=2.0))
    assert meter.month_units("alice") == 12.0
    await meter.flush()
    assert meter.month_units("alice") == 12.0
    assert meter.month_units("bob") == 0.0
    meter.clock.seconds += 30 * 86400
    assert meter.month_units("alice") == 0.0
    meter.add(record(units=4.0))
    assert meter.month_units("alice") == 4.0
    await meter.close()


@settings(max_examples=20)
@given(st.lists(st.tuples(st.sampled_from(["add", "flush", "fail"]), st.integers(1, 9)), max_size=12))
def test_the_months_units_are_what_was_added_whatever_fails_on_the_way(steps: list[tuple[str, int]]) -> None:
    async def play_steps() -> None:
        store = Store("sqlite://")
        await migrate(store)
        meter, total = Meter(store), 0.0
        for step, units in steps:
            if step == "add":
                meter.add(record(units=float(units)))
                total += units
            elif step == "flush":
                await meter.flush()
            else:
                await take_away(store, "usage")
                with pytest.raises(STORE_FAILURES):
                    await meter.flush()
                await bring_back(store, "usage")
            assert meter.month_units("alice") == total
        await meter.flush()
        assert sum(row.units for row in await written(store)) == total
        await store.close()

    asyncio.run(play_steps())


async def test_the_end_of_the_gateway_writes_what_is_left(store: Store) -> None:
    meter = Meter(store)
    await meter.start()
    meter.add(record(units=2.0))
    await meter.close()
    assert [row.units for row in await written(store)] == [2.0]


async def test_a_loss_at_the_end_is_logged(store: Store) -> None:
    meter = Meter(store)
    await meter.start()
    meter.add(record(units=2.0))
    await take_away(store, "usage")
    await meter.close()
    assert '"usage_lost"' in meter.log.getvalue()


class WatchedMeter(UsageMeter):
    """Says when it has written."""

    flushed: asyncio.Semaphore

    async def flush(self) -> None:
        await super().flush()
        self.flushed.release()


async def test_usage_is_written_every_few_seconds_by_itself(store: Store) -> None:
    meter = WatchedMeter(store, make_log("INFO", io.StringIO()), flush_s=0.001, now=Clock())
    meter.flushed = asyncio.Semaphore(0)
    await meter.start()
    await meter.flushed.acquire()
    meter.add(record(units=2.0))
    for _ in range(2):  # one of them may have begun before
        await meter.flushed.acquire()
    assert [row.units for row in await written(store)] == [2.0]
    await meter.close()
