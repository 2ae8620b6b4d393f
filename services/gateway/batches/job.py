"""Owns one batch on this gateway, from its lease to its files: check, run, finish. Any gateway can go on from anywhere.

What is done is in the store alone: a job that ends early, by a crash or because its lease is lost, leaves nothing to
clean up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from services.gateway.batches.book import Batch
from services.gateway.batches.in_process import Answer
from services.gateway.batches.ledger import LeaseLost, Ledger, Result
from services.gateway.batches.lines import MAX_NUMBER, TOO_MANY, BadLine, Checker, answered
from services.gateway.batches.outputs import write_outputs
from services.gateway.batches.slots import Slots
from services.gateway.batches.supply import INPUT_PROBLEMS, Attempt, Supply, input_lines
from services.gateway.blobs import LineTooLong, TooManyLines
from services.gateway.files import Files
from services.gateway.logs import Log
from services.gateway.store.database import unbroken
from services.gateway.store.usage_rows import day_of
from services.gateway.tenants import Tenant
from services.gateway.usage import usage_row
from shared.schemas.batches import BatchError

RETRIED = frozenset({429, 503})  # no fault: the model has no room now. Tried again until the batch's time is over
MOST_FAULTS = 3  # tries that may end in another status of 500 and over
LEAST_PAUSE_S = 1.0
TOO_LATE = 504  # no fault either, if nothing was done: it waited for all its time
REST_S = 15.0  # how often a batch asks whether its tenant may go on


@dataclass(frozen=True, slots=True)
class Means:
    """What all jobs of a gateway share.

    `spender` gives a tenant that may run requests now, None if it may not. `slots` bounds the lines that run at once,
    and is fair to tenants; each batch waits for one line at a time, so that a tenant's batches take turns.
    """

    ledger: Ledger
    files: Files
    ask: Callable[[Tenant, str, bytes], Awaitable[Answer]]
    spender: Callable[[str], Tenant | None]
    slots: Slots
    longest_line: Callable[[str], int]  # bytes, by endpoint
    log: Log
    now: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Job:
    """Runs one leased batch to its end."""

    def __init__(self, batch: Batch, means: Means) -> None:
        self.id = batch.id
        self.tenant = batch.tenant
        self._batch = batch
        self._means = means
        self._longest = means.longest_line(batch.endpoint)
        self._is_over = asyncio.Event()
        self._pause_s = 0.0
        self._rests = False  # its tenant may not spend

    def end_early(self) -> None:
        """The batch was cancelled, or its time is over: abort what runs, and write what there is."""
        self._is_over.set()

    async def run(self) -> None:
        """Raises LeaseLost, alone or in a group, and what the store and the blobs raise.

        Where its tenant may not spend it leaves the batch, which is claimed again after a rest.
        """
        try:
            await self._advance()
        except* INPUT_PROBLEMS as problems:
            problem = _problem(problems, self._longest)
            await self._means.ledger.fail(self.id, [problem])
            self._means.log.error("batch_input_unusable", batch=self.id, code=problem.code)

    async def _advance(self) -> None:
        ledger = self._means.ledger
        if self._batch.status == "validating":
            await self._unless_over(self._check())
        if self._batch.status == "in_progress":
            await self._unless_over(self._run_lines())
        if self._rests and not self._is_over.is_set():
            await ledger.release([self.id], rest_s=REST_S)
            return
        if self._batch.status in ("validating", "in_progress"):
            self._batch = await ledger.close(self.id)
        batch = self._batch
        if batch.status in ("finalizing", "cancelling"):
            output, error = await write_outputs(self._means.files, ledger, batch, longest=self._longest)
            try:
                await ledger.finish(batch.id, batch.ending, output=output, error=error)
            except LeaseLost:
                for file in (output, error):
                    if file is not None:
                        await self._means.files.blobs.remove(file.id)
                raise

    async def _check(self) -> None:
        if self._means.spender(self._batch.tenant) is None:
            self._rests = True
            return
        batch, checker = self._batch, Checker(self._batch.endpoint)
        pages = self._means.files.blobs.lines(
            batch.input_file_id, longest=self._longest, most=MAX_NUMBER, parse=checker.check
        )
        async with aclosing(pages):
            async for _ in pages:
                if checker.is_hopeless:
                    break
        problems = checker.problems()
        ledger = self._means.ledger
        self._batch = await (ledger.fail(self.id, problems) if problems else ledger.begin(self.id, checker.total))

    async def _run_lines(self) -> None:
        batch, slots = self._batch, self._means.slots
        recorded = await self._means.ledger.recorded(self.id)
        lines = input_lines(
            self._means.files.blobs, batch.input_file_id, batch.endpoint, longest=self._longest, without=recorded
        )
        async with aclosing(lines), asyncio.TaskGroup() as running:
            supply = Supply(lines)
            while (attempt := await supply.take()) is not None:
                tenant = await self._slot()
                if tenant is None:
                    self._rests = True
                    return  # when the lines that run have ended
                trying = running.create_task(self._try(attempt, supply, tenant))
                # A task that never begins gives it back as well.
                trying.add_done_callback(lambda _: slots.give_back(batch.tenant))

    async def _slot(self) -> Tenant | None:
        """Take a slot as soon as the last answers allow, and give the tenant as it is then.

        None, and no slot, if it may not spend.
        """
        while True:
            await self._means.slots.take(self._batch.tenant)
            pause_s, self._pause_s = self._pause_s, 0.0
            tenant = self._means.spender(self._batch.tenant)
            if tenant is not None and not pause_s:
                return tenant
            self._means.slots.give_back(self._batch.tenant)
            if tenant is None:
                return None
            await self._means.sleep(pause_s)

    async def _try(self, attempt: Attempt, supply: Supply, tenant: Tenant) -> None:
        answer = await self._means.ask(tenant, self._batch.endpoint, attempt.line.body)
        if answer.status in RETRIED or (answer.status == TOO_LATE and not answer.record.work):
            self._pause_s = max(self._pause_s, answer.retry_after or LEAST_PAUSE_S)
            supply.retry(attempt)
        elif answer.status >= 500 and attempt.faults + 1 < MOST_FAULTS:
            supply.retry(attempt.after_fault())
        else:
            await unbroken(self._record(attempt, answer))
            supply.done()

    async def _record(self, attempt: Attempt, answer: Answer) -> None:
        line, record = attempt.line, answer.record
        text = answered(self.id, line, status=answer.status, request_id=record.request_id, body=answer.body)
        used = usage_row(record, day_of(self._means.now()))
        await self._means.ledger.record(self.id, Result(line.number, answer.status, text), used)

    async def _unless_over(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` to its end, or cancel it when the batch ends early."""
        working = asyncio.ensure_future(work)
        ending = asyncio.ensure_future(self._is_over.wait())
        try:
            await asyncio.wait((working, ending), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            for task in (working, ending):
                task.cancel()
            await asyncio.gather(working, ending, return_exceptions=True)


INPUT_GONE = BatchError(
    code="input_file_missing", line=None, message="The input file's bytes are gone.", param="input_file_id"
)


def _problem(group: BaseExceptionGroup[Exception], longest: int) -> BatchError:
    """What keeps an input from being run, also one that was checked under other limits."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, LineTooLong):
        message = f"A line may have at most {longest} bytes."
        return BatchError(code="line_too_long", line=error.number, message=message, param=None)
    if isinstance(error, BadLine):
        return BatchError(code=error.code, line=None, message=error.message, param=error.param)
    return TOO_MANY if isinstance(error, TooManyLines) else INPUT_GONE
