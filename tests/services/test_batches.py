"""Batches on a real PostgreSQL: gateways that race for batches, lines and charges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from services.gateway.batches.ledger import LeaseLost, Ledger, Result
from services.gateway.batches.runner import BatchRunner
from services.gateway.store.usage_rows import UsageRow
from shared.errors import Conflict, InvalidRequest, NotFound
from shared.schemas.batches import BatchRequest
from tests.unit.batches.desk import LEASE_S, TENANT, TOKENS, Desk, desk_on, request_line, request_lines


@pytest.fixture
async def desk(postgres_url: str, tmp_path: Path) -> AsyncGenerator[Desk]:
    async with desk_on(postgres_url, tmp_path / "blobs") as desk:
        yield desk


async def test_three_gateways_run_ten_batches_once(desk: Desk) -> None:
    batches = [await desk.begin([request_line(f"{n}-{m}") for m in range(20)]) for n in range(10)]
    async with AsyncExitStack() as stack:
        for _ in range(3):
            runner = BatchRunner(desk.means(), beat_s=0.02)
            stack.push_async_callback(runner.close)
            runner.start()
        await desk.log.until("batch_left", 10)
    assert sorted(desk.asked) == sorted(f"{n}-{m}" for n in range(10) for m in range(20))
    assert {(await desk.now_of(batch)).status for batch in batches} == {"completed"}
    assert await desk.charged() == (200, 200 * TOKENS)


async def test_a_batch_is_claimed_by_one_of_many_at_once(desk: Desk) -> None:
    await desk.begin(request_lines(1))
    claimed = await asyncio.gather(*(desk.ledger().claim(5) for _ in range(8)))
    assert sorted(len(batches) for batches in claimed) == [0] * 7 + [1]


async def test_a_line_recorded_many_times_at_once_counts_once(desk: Desk) -> None:
    batch = await desk.begin(request_lines(1))
    ledger = desk.ledger()
    await ledger.claim(1)
    await ledger.begin(batch.id, 1)
    used = UsageRow(TENANT, "tiny", "2026-01-01", requests=1, completion_tokens=TOKENS)
    await asyncio.gather(*(ledger.record(batch.id, Result(1, 200, "{}"), used) for _ in range(8)))
    assert await desk.charged() == (1, TOKENS)
    assert (await desk.now_of(batch)).completed == 1


async def test_a_takeover_in_the_middle_of_recording_counts_every_line_once(desk: Desk) -> None:
    batch = await desk.begin(request_lines(20))
    first, second = desk.ledger(), desk.ledger()
    await first.claim(1)
    await first.begin(batch.id, 20)
    desk.time += LEASE_S + 1
    used = UsageRow(TENANT, "tiny", "2026-01-01", requests=1, completion_tokens=TOKENS)

    async def record_all(ledger: Ledger) -> None:
        for line in range(1, 21):
            await ledger.record(batch.id, Result(line, 200, "{}"), used)

    async def take_over() -> None:
        await second.claim(1)
        await record_all(second)

    ended = await asyncio.gather(record_all(first), take_over(), return_exceptions=True)
    assert sum(isinstance(each, LeaseLost) for each in ended) == 1
    assert await desk.charged() == (20, 20 * TOKENS)
    assert (await desk.now_of(batch)).completed == 20


async def test_a_file_is_either_deleted_or_read_by_a_batch(desk: Desk) -> None:
    for _ in range(10):
        file_id = await desk.upload([b"{}"])
        request = BatchRequest(input_file_id=file_id, endpoint="/v1/completions", completion_window="24h")
        created, removed = await asyncio.gather(
            desk.book.create(TENANT, request), desk.files.remove(TENANT, file_id), return_exceptions=True
        )
        assert isinstance(created, InvalidRequest) != isinstance(removed, Conflict)
        if isinstance(removed, Conflict):
            await desk.files.find(TENANT, file_id)
        else:
            with pytest.raises(NotFound):
                await desk.files.find(TENANT, file_id)
