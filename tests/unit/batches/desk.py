"""What tests of batches share: a store with files and batches, a scripted model, gateways that work on them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from services.gateway.batches.book import Batch, BatchBook
from services.gateway.batches.in_process import Answer
from services.gateway.batches.job import Job, Means
from services.gateway.batches.ledger import Ledger
from services.gateway.batches.slots import Slots
from services.gateway.blobs import Blobs
from services.gateway.files import File, Files
from services.gateway.record import Record
from services.gateway.store.database import Store
from services.gateway.store.tables import batch_results, metadata, usage
from services.gateway.tenants import Tenant
from shared.schemas.batches import BatchRequest

CHAT = "/v1/chat/completions"
TENANT = "acme"
LEASE_S = 15.0
TOKENS = 3  # of every answer
Ask = Callable[[Tenant, str, bytes], Awaitable[Answer]]


def request_line(custom_id: str, **body: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": {"model": "tiny", "word": custom_id, **body}}


def request_lines(count: int) -> list[dict[str, Any]]:
    return [request_line(f"line-{number}") for number in range(1, count + 1)]


def answer(
    tenant: Tenant, body: bytes, status: int = 200, *, retry_after: float | None = None, model: str | None = "tiny"
) -> Answer:
    """Echoes the request's word."""
    record = Record("req_1", "POST", CHAT, 0.0, tenant=tenant, model=model, status=status, is_batch_line=True)
    if status == 200:
        record.completion_tokens, record.units = TOKENS, float(TOKENS)
    return Answer(status, json.dumps({"echo": json.loads(body)["word"]}).encode(), retry_after, record)


@dataclass
class Events:
    """A log that can be waited for."""

    seen: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def info(self, event: str, **fields: object) -> None:
        self.seen.append((event, fields))
        task = asyncio.ensure_future(self._tell())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    warning = error = info

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def until(self, event: str, count: int = 1) -> None:
        try:
            async with asyncio.timeout(60), self.changed:
                await self.changed.wait_for(lambda: [name for name, _ in self.seen].count(event) >= count)
        except TimeoutError:
            raise AssertionError(f"waited in vain for {count} of {event}; seen: {self.seen}") from None


@dataclass
class Desk:
    """`asked` are the words of all requests, in order; `time` is the wall clock's, moved by hand."""

    store: Store
    files: Files
    book: BatchBook
    time: float = 1_700_000_000.0
    asked: list[str] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    tenants: dict[str, Tenant] = field(default_factory=lambda: {TENANT: Tenant(TENANT)})
    log: Events = field(default_factory=Events)

    def now(self) -> float:
        return self.time

    async def upload(self, lines: Sequence[dict[str, Any] | bytes], tenant: str = TENANT) -> str:
        """Lines as they are if they are bytes."""
        raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        async with self.files.receiving() as (file_id, writer):
            await writer.write(b"".join(line + b"\n" for line in raw))
        await self.files.add(File(file_id, tenant, "in.jsonl", "batch", writer.size, "0" * 64, self.time, None))
        return file_id

    async def begin(self, lines: Sequence[dict[str, Any] | bytes], tenant: str = TENANT) -> Batch:
        file_id = await self.upload(lines, tenant)
        request = BatchRequest(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
        return await self.book.create(tenant, request)

    async def ask(self, tenant: Tenant, path: str, body: bytes) -> Answer:
        self.asked.append(json.loads(body)["word"])
        return answer(tenant, body)

    def means(self, *, ask: Ask | None = None, ledger: Ledger | None = None, slots: int = 4) -> Means:
        """Another gateway's, each time."""

        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            await asyncio.sleep(0)

        return Means(
            ledger=ledger or self.ledger(),
            files=self.files,
            ask=ask or self.ask,
            spender=self.tenants.get,
            slots=Slots(slots),
            longest_line=lambda _: 4096,
            log=self.log,
            now=self.now,
            sleep=sleep,
        )

    def ledger(self) -> Ledger:
        return Ledger(self.store, lease_s=LEASE_S, now=self.now)

    async def run(self, means: Means | None = None) -> None:
        """Claim every free batch, and run them one after another, as far as they go."""
        means = means or self.means()
        for batch in await means.ledger.claim(100):
            await Job(batch, means).run()

    async def now_of(self, batch: Batch) -> Batch:
        return await self.book.find(batch.tenant, batch.id)

    async def lines_of(self, file_id: str | None) -> list[dict[str, Any]]:
        assert file_id is not None
        data = b"".join([piece async for piece in self.files.blobs.pieces(file_id)])
        return [json.loads(line) for line in data.splitlines()]

    async def charged(self, tenant: str = TENANT) -> tuple[int, int]:
        """Requests and completion tokens."""
        async with self.store.read() as connection:
            rows = (await connection.execute(select(usage).where(usage.c.tenant == tenant))).all()
        return sum(row.requests for row in rows), sum(row.completion_tokens for row in rows)

    async def kept_results(self) -> int:
        async with self.store.read() as connection:
            return len((await connection.execute(select(batch_results.c.line))).all())


@asynccontextmanager
async def desk_on(url: str, folder: Path) -> AsyncGenerator[Desk]:
    store = Store(url)
    try:
        async with store.begin() as connection:
            await connection.run_sync(metadata.create_all)
        times: list[Desk] = []
        files = Files(store, Blobs(str(folder)), now=lambda: times[0].time)
        times.append(Desk(store, files, BatchBook(store, now=lambda: times[0].time)))
        yield times[0]
    finally:
        await store.close()
