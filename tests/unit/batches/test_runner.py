"""Which batches run on a gateway: claims, leases, turns, and what happens when a gateway or the store goes away."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from services.gateway import files as files_module
from services.gateway.batches.in_process import Answer
from services.gateway.batches.job import Means
from services.gateway.batches.ledger import MOST_OF_A_TENANT, Ledger, Result
from services.gateway.batches.runner import MOST_JOBS, BatchRunner
from services.gateway.batches.slots import Slots
from services.gateway.files import new_file_id
from services.gateway.store.tables import batches, files
from services.gateway.tenants import Tenant
from shared.schemas.batches import WINDOW_S
from tests.unit.batches.desk import LEASE_S, TENANT, TOKENS, Desk, answer, request_line, request_lines

BEAT_S = 0.01


@asynccontextmanager
async def running(means: Means) -> AsyncGenerator[BatchRunner]:
    runner = BatchRunner(means, beat_s=BEAT_S)
    runner.start()
    try:
        yield runner
    finally:
        await runner.close()


class Turnstile(Slots):
    """One passes at a time; `crowd` is set when three wait behind the first."""

    def __init__(self) -> None:
        super().__init__(1)
        self._came = 0
        self.crowd = asyncio.Event()

    async def take(self, tenant: str) -> None:
        self._came += 1
        if self._came == 4:
            self.crowd.set()
        await super().take(tenant)


async def test_batches_take_turns(desk: Desk) -> None:
    for name in ("a", "b", "c"):
        await desk.begin([request_line(f"{name}{number}") for number in range(5)])
    release = asyncio.Semaphore(0)

    async def ask(tenant: Tenant, path: str, body: bytes) -> Answer:
        desk.asked.append(json.loads(body)["word"])
        await release.acquire()
        return answer(tenant, body)

    slots = Turnstile()
    async with running(replace(desk.means(ask=ask), slots=slots)):
        await slots.crowd.wait()
        for _ in range(15):
            release.release()
        await desk.log.until("batch_left", 3)
    assert {word[0] for word in desk.asked[1:4]} == {"a", "b", "c"}
    assert {word[0] for word in desk.asked[4:7]} == {"a", "b", "c"}


async def test_no_more_lines_run_at_once_than_allowed(desk: Desk) -> None:
    at_once = [0, 0]

    async def ask(tenant: Tenant, path: str, body: bytes) -> Answer:
        at_once[0] += 1
        at_once[1] = max(at_once)
        await asyncio.sleep(0.001)
        at_once[0] -= 1
        return answer(tenant, body)

    for _ in range(3):
        await desk.begin(request_lines(10))
    async with running(desk.means(ask=ask, slots=4)):
        await desk.log.until("batch_left", 3)
    assert at_once[1] == 4


async def test_a_tenants_many_batches_do_not_keep_anothers_one_from_being_claimed(desk: Desk) -> None:
    for _ in range(MOST_JOBS + 5):
        await desk.begin(request_lines(1))
    late = await desk.begin(request_lines(1), tenant="small")
    claimed = await desk.ledger().claim(MOST_JOBS)
    assert Counter(batch.tenant for batch in claimed) == {TENANT: MOST_OF_A_TENANT, "small": 1}
    assert late.id in {batch.id for batch in claimed[:2]}


async def test_a_tenant_without_a_batch_here_gets_one_though_the_gateway_is_full(desk: Desk) -> None:
    for tenant in (TENANT, TENANT, "small", "small", "new"):
        await desk.begin(request_lines(1), tenant=tenant)
    claimed = await desk.ledger().claim(0, held={TENANT: 2, "small": 1})
    assert [batch.tenant for batch in claimed] == ["new"]


async def test_those_with_the_fewest_batches_here_are_claimed_first(desk: Desk) -> None:
    for tenant in (TENANT, TENANT, "small", "small"):
        await desk.begin(request_lines(1), tenant=tenant)
    claimed = await desk.ledger().claim(2, held={TENANT: 3, "small": 1})
    assert [batch.tenant for batch in claimed] == ["small", "small"]


async def test_batches_of_a_tenant_that_may_not_spend_leave_room_for_others(desk: Desk) -> None:
    desk.tenants = {"small": Tenant("small")}
    for _ in range(MOST_JOBS):
        await desk.begin(request_lines(1))
    answered = asyncio.Event()

    async def ask(tenant: Tenant, path: str, body: bytes) -> Answer:
        answered.set()
        return await desk.ask(tenant, path, body)

    async with running(desk.means(ask=ask)) as runner:
        await desk.log.until("batch_left", MOST_OF_A_TENANT)
        await desk.begin(request_lines(1), tenant="small")
        runner.wake()
        await answered.wait()
    assert desk.asked == ["line-1"]


async def test_a_long_sweep_keeps_no_batch_from_running(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(desk.files, "sweep", hang)
    await desk.begin(request_lines(1))
    async with running(desk.means()):
        await desk.log.until("batch_left")


async def test_two_gateways_share_the_batches_and_no_line_runs_twice(desk: Desk) -> None:
    batches = [await desk.begin([request_line(f"{n}-{m}") for m in range(5)]) for n in range(8)]
    async with running(desk.means()), running(desk.means()):
        await desk.log.until("batch_left", 8)
    assert sorted(desk.asked) == sorted(f"{n}-{m}" for n in range(8) for m in range(5))
    assert {(await desk.now_of(batch)).status for batch in batches} == {"completed"}
    assert await desk.charged() == (40, 40 * TOKENS)


async def test_a_gateway_that_stops_leaves_its_batches_to_others_at_once(desk: Desk) -> None:
    asked = asyncio.Event()

    async def hang(tenant: Tenant, path: str, body: bytes) -> Answer:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    batch = await desk.begin(request_lines(2))
    async with running(desk.means(ask=hang)):
        await asked.wait()
    async with running(desk.means()):
        await desk.log.until("batch_left")
    assert (await desk.now_of(batch)).status == "completed"
    assert await desk.charged() == (2, 2 * TOKENS)


async def test_a_gateway_that_hangs_loses_its_batches_and_what_it_says_later_counts_for_nothing(desk: Desk) -> None:
    asked, answers = asyncio.Event(), asyncio.Event()

    async def slow(tenant: Tenant, path: str, body: bytes) -> Answer:
        asked.set()
        await answers.wait()
        return answer(tenant, body)

    class StuckLedger(Ledger):
        async def renew(self, held: Any) -> Any:
            await asyncio.Event().wait()

    stuck = StuckLedger(desk.store, lease_s=LEASE_S, now=desk.now)
    batch = await desk.begin(request_lines(2))
    async with running(desk.means(ask=slow, ledger=stuck)):
        await asked.wait()
        desk.time += LEASE_S + 1
        async with running(desk.means()):
            await desk.log.until("batch_left")
            answers.set()
            await desk.log.until("batch_lease_lost")
    assert (await desk.now_of(batch)).completed == 2
    assert await desk.charged() == (2, 2 * TOKENS)


async def test_a_lease_that_was_lost_ends_the_work_on_it(desk: Desk) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def hang(tenant: Tenant, path: str, body: bytes) -> Answer:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        raise AssertionError

    batch = await desk.begin(request_lines(1))
    first = desk.means(ask=hang)
    async with running(first):
        await asked.wait()
        async with desk.store.begin() as connection:
            await connection.execute(update(batches).where(batches.c.id == batch.id).values(lease_owner="another"))
        async with asyncio.timeout(10):
            await gone.wait()


async def test_cancelling_ends_a_running_batch(desk: Desk) -> None:
    asked = asyncio.Event()

    async def hang(tenant: Tenant, path: str, body: bytes) -> Answer:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    batch = await desk.begin(request_lines(2))
    async with running(desk.means(ask=hang)) as runner:
        await asked.wait()
        await desk.book.cancel(TENANT, batch.id)
        runner.wake()
        await desk.log.until("batch_left")
    assert (await desk.now_of(batch)).status == "cancelled"


async def test_a_batch_expires_even_if_no_gateway_ran_when_its_time_was_over(desk: Desk) -> None:
    batch = await desk.begin(request_lines(2))
    ledger = desk.ledger()
    await ledger.claim(1)
    await ledger.begin(batch.id, 2)
    desk.time += WINDOW_S
    async with running(desk.means()):
        await desk.log.until("batch_left")
    ended = await desk.now_of(batch)
    assert (ended.status, desk.asked) == ("expired", [])
    assert len(await desk.lines_of(ended.error_file_id)) == 2


async def test_a_batch_whose_input_is_gone_fails_instead_of_being_tried_for_ever(desk: Desk) -> None:
    batch = await desk.begin(request_lines(2))
    ledger = desk.ledger()
    await ledger.claim(1)
    await ledger.begin(batch.id, 2)
    await ledger.release([batch.id])
    await desk.files.blobs.remove(batch.input_file_id)
    async with running(desk.means()):
        await desk.log.until("batch_input_unusable")
    assert (await desk.now_of(batch)).status == "failed"
    assert [error["code"] for error in (await desk.now_of(batch)).errors or ()] == ["input_file_missing"]


async def test_a_store_that_fails_for_a_while_is_asked_again(desk: Desk) -> None:
    class FlakyLedger(Ledger):
        failures = 3

        async def claim(self, room: int, **options: Any) -> Any:
            if self.failures:
                self.failures -= 1
                raise OSError("no route to the store")
            return await super().claim(room, **options)

    batch = await desk.begin(request_lines(1))
    async with running(desk.means(ledger=FlakyLedger(desk.store, lease_s=LEASE_S, now=desk.now))):
        await desk.log.until("batch_left")
    assert (await desk.now_of(batch)).status == "completed"


async def test_a_job_that_fails_is_tried_again_when_its_lease_has_run_out(desk: Desk) -> None:
    faults = [RuntimeError("a bug")]

    async def ask(tenant: Tenant, path: str, body: bytes) -> Answer:
        if faults:
            raise faults.pop()
        return answer(tenant, body)

    batch = await desk.begin(request_lines(1))
    async with running(desk.means(ask=ask)):
        await desk.log.until("batch_interrupted")
        assert await desk.ledger().claim(1) == []
        desk.time += LEASE_S + 1
        await desk.log.until("batch_left")
    assert (await desk.now_of(batch)).status == "completed"


async def test_expired_files_are_removed_but_not_those_that_a_batch_reads(desk: Desk, tmp_path: Path) -> None:
    batch, unused = await desk.begin(request_lines(1)), await desk.upload([b"{}"])
    async with desk.store.begin() as connection:
        await connection.execute(update(files).values(expires_at=desk.time + 1))
    desk.time += 2
    await desk.files.sweep()
    left = {path.name for path in (tmp_path / "blobs").iterdir()}
    assert batch.input_file_id in left
    assert unused not in left
    await desk.run()
    assert (await desk.now_of(batch)).status == "completed"


async def test_a_sweep_removes_all_that_expired_and_bytes_without_a_row_and_nothing_else(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "PORTION", 2)
    kept = await desk.upload([b"{}"])
    expired = [await desk.upload([b"{}"]) for _ in range(5)]
    async with desk.store.begin() as connection:
        await connection.execute(update(files).where(files.c.id.in_(expired)).values(expires_at=desk.time))
    folder = tmp_path / "blobs"
    orphan, fresh, foreign = (folder / name for name in (new_file_id(), new_file_id(), "notes.txt"))
    for path in (orphan, fresh, foreign):
        path.write_bytes(b"x")
    for path in (orphan, foreign, folder / kept):
        os.utime(path, (0, 0))
    await desk.files.sweep()
    left = {path.name for path in folder.iterdir() if path.is_file()}
    assert left == {kept, fresh.name, foreign.name}


@pytest.mark.parametrize(("longest", "code"), [(1, "line_too_long"), (4096, "invalid_url")])
async def test_an_input_that_other_limits_let_in_fails_the_batch_by_its_code(
    desk: Desk, longest: int, code: str
) -> None:
    line = request_line("a") if longest == 1 else {**request_line("a"), "url": "/v1/completions"}
    batch = await desk.begin([line])
    ledger = desk.ledger()
    await ledger.claim(1)
    await ledger.begin(batch.id, 1)
    await ledger.record(batch.id, Result(2, 200, "{}"), None)
    await ledger.release([batch.id])
    async with running(replace(desk.means(), longest_line=lambda _: longest)):
        await desk.log.until("batch_left")
    ended = await desk.now_of(batch)
    assert (ended.status, [error["code"] for error in ended.errors or ()]) == ("failed", [code])
    assert await desk.kept_results() == 0
