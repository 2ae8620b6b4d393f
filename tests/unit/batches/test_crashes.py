"""A gateway may die between any two writes: the next one goes on, and every line has one result and one charge."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.gateway.batches.ledger import Ledger, Result
from services.gateway.blobs import Blobs, BlobWriter
from services.gateway.files import Files
from services.gateway.store.database import Store
from services.gateway.store.usage_rows import UsageRow
from tests.unit.batches.desk import LEASE_S, TENANT, TOKENS, Desk, desk_on, request_line, request_lines

LINES = 3
# Of a batch that ends so: claim, begin, a record a line, close, a file or two, finish; or claim and fail.
WRITES = {"completed": LINES + 5, "cancelled": 4, "failed": 2}


class Crash(Exception):
    """The process is gone."""


class Fuse:
    """Counts the writes of a gateway, and burns at one of them: none after it has any effect."""

    def __init__(self, burns_at: int, *, after: bool) -> None:
        self._left = burns_at
        self._after = after
        self.has_burnt = False

    def before(self) -> None:
        if self.has_burnt:
            raise Crash
        self._left -= 1
        if self._left == 0 and not self._after:
            self.has_burnt = True
            raise Crash

    def after(self) -> None:
        if self._left == 0:
            self.has_burnt = True
            raise Crash


class MortalStore(Store):
    def __init__(self, store: Store, fuse: Fuse) -> None:
        self.engine, self.is_sqlite, self.url = store.engine, store.is_sqlite, store.url
        self._fuse = fuse

    @asynccontextmanager
    async def begin(self) -> AsyncGenerator[Any]:
        async with super().begin() as connection:
            yield connection
            self._fuse.before()  # raised here, it rolls back
        self._fuse.after()


class MortalBlobs(Blobs):
    def __init__(self, folder: Path, fuse: Fuse) -> None:
        super().__init__(str(folder))
        self._fuse = fuse

    @asynccontextmanager
    async def writing(self, name: str) -> AsyncGenerator[BlobWriter]:
        async with super().writing(name) as writer:
            yield writer
            self._fuse.before()
        self._fuse.after()


async def _live_and_die(desk: Desk, folder: Path, fuse: Fuse) -> None:
    """A gateway that works until its fuse burns."""
    store = MortalStore(desk.store, fuse)
    means = desk.means(ledger=Ledger(store, lease_s=LEASE_S, now=desk.now), slots=2)
    files = Files(store, MortalBlobs(folder, fuse), now=desk.now)
    try:
        await desk.run(replace(means, files=files))
    except* Crash:
        pass


@pytest.mark.parametrize("after", [False, True], ids=["before it counts", "after it counts"])
@pytest.mark.parametrize("ending", ["completed", "cancelled", "failed"])
async def test_a_crash_at_any_write_leaves_one_result_and_one_charge_a_line(
    tmp_path: Path, ending: str, after: bool
) -> None:
    for burns_at in range(1, WRITES[ending] + 2):
        folder = tmp_path / str(burns_at)
        folder.mkdir()
        async with desk_on(f"sqlite:///{folder / 'store.db'}", folder / "blobs") as desk:
            has_died = await _dies_once(desk, folder / "blobs", Fuse(burns_at, after=after), ending)
            assert has_died == (burns_at <= WRITES[ending])


async def _dies_once(desk: Desk, blobs: Path, fuse: Fuse, ending: str) -> bool:
    lines = request_lines(LINES) + ([request_line("line-1")] if ending == "failed" else [])
    batch = await desk.begin(lines)
    if ending == "cancelled":
        await _cancel_after_one_line(desk, batch.id)
    await _live_and_die(desk, blobs, fuse)
    desk.time += LEASE_S + 1
    await desk.run()  # the next gateway
    ended = await desk.now_of(batch)
    assert ended.status == ending
    done = ended.completed
    assert done == {"completed": LINES, "cancelled": 1, "failed": 0}[ending]
    assert await desk.charged() == (done, done * TOKENS)
    assert await desk.kept_results() == 0
    if done:
        got = [line["custom_id"] for line in await desk.lines_of(ended.output_file_id)]
        assert got == [f"line-{number}" for number in range(1, done + 1)]
    return fuse.has_burnt


async def _cancel_after_one_line(desk: Desk, batch_id: str) -> None:
    """As a gateway leaves it that is asked to cancel, and dies."""
    ledger = desk.ledger()
    await ledger.claim(1)
    await ledger.begin(batch_id, LINES)
    used = UsageRow(TENANT, "tiny", "2026-01-01", requests=1, completion_tokens=TOKENS)
    await ledger.record(batch_id, Result(1, 200, '{"custom_id": "line-1"}'), used)
    await desk.book.cancel(TENANT, batch_id)
    desk.time += LEASE_S + 1
