"""Owns a batch's output file, of the lines that succeeded, and its error file, of all others. In the input's order.

Whoever writes them, again after a crash or beside a gateway that has lost its lease, writes files of its own: those
that the batch's end names are its files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing

from services.gateway.batches.book import Batch
from services.gateway.batches.ledger import LeaseLost, Ledger
from services.gateway.batches.lines import MAX_NUMBER, custom_id_of, not_run
from services.gateway.blobs import Blobs, BlobWriter, NumberedLine
from services.gateway.files import File, Files, new_file_id
from shared.schemas.files import LIFETIME_S

GATHER = 2**20  # bytes that wait to be written together
INLINE_BYTES = 64 * 1024  # a longer line is parsed in a thread
REASONS = {
    "cancelled": ("batch_cancelled", "The batch was cancelled before this request was run."),
    "expired": ("batch_expired", "The batch's completion window ended before this request was run."),
}


async def write_outputs(files: Files, ledger: Ledger, batch: Batch, *, longest: int) -> tuple[File | None, File | None]:
    """The output and error files, their bytes kept, their rows still to be added; None where a file would be empty.

    Raises `INPUT_PROBLEMS`, LeaseLost where it is seen, and what the store and the blobs raise.
    """
    if not batch.total:  # it ended before its input was checked
        return None, None
    async with AsyncExitStack() as stack:
        output, error = (_Half(files.blobs, batch, kind, stack) for kind in ("output", "error"))
        pages = files.blobs.lines(batch.input_file_id, longest=longest, most=MAX_NUMBER, parse=_as_they_are)
        async with aclosing(pages):
            async for page in pages:
                await _write_page(ledger, batch, page, output, error)
        await output.flush()
        await error.flush()
    return output.file(files.now()), error.file(files.now())


async def _write_page(ledger: Ledger, batch: Batch, page: Sequence[NumberedLine], output: _Half, error: _Half) -> None:
    if not page:
        return
    async with aclosing(ledger.results(batch.id, page[0][0], page[-1][0])) as results:
        result = await anext(results, None)
        for number, raw in page:
            if result is None or result.line != number:
                await error.write(await _unanswered(batch, number, raw))
                continue
            await (output if result.succeeded else error).write(result.text)
            result = await anext(results, None)


def _as_they_are(lines: Sequence[NumberedLine]) -> Sequence[NumberedLine]:
    return lines


class _Half:
    """One of the two files. It begins with its first line."""

    def __init__(self, blobs: Blobs, batch: Batch, kind: str, stack: AsyncExitStack) -> None:
        self._blobs = blobs
        self._batch = batch
        self._kind = kind
        self._id = new_file_id()
        self._gathered = bytearray()
        self._writer: BlobWriter | None = None
        self._stack = stack

    async def write(self, line: str) -> None:
        self._gathered += line.encode()
        self._gathered += b"\n"
        if len(self._gathered) >= GATHER:
            await self.flush()

    async def flush(self) -> None:
        if not self._gathered:
            return
        if self._writer is None:
            self._writer = await self._stack.enter_async_context(self._blobs.writing(self._id))
        data = bytes(self._gathered)
        self._gathered.clear()
        await self._writer.write(data)

    def file(self, now: float) -> File | None:
        if self._writer is None:
            return None
        lifetime_s = self._batch.output_expires_s or LIFETIME_S
        return File(
            self._id,
            self._batch.tenant,
            filename=f"{self._batch.id}_{self._kind}.jsonl",
            purpose="batch_output",
            bytes=self._writer.size,
            sha256=self._writer.sha256,
            created_at=now,
            expires_at=now + lifetime_s,
        )


async def _unanswered(batch: Batch, number: int, raw: bytes) -> str:
    if batch.ending == "completed":  # each line had its result: another has ended the batch, and they are gone
        raise LeaseLost(batch.id)
    custom_id = custom_id_of(raw) if len(raw) <= INLINE_BYTES else await asyncio.to_thread(custom_id_of, raw)
    code, message = REASONS[batch.ending]
    return not_run(batch.id, number, custom_id, code=code, message=message)
