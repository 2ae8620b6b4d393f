"""Owns one service on one replica: its engine, its models, and the life of a call. Never sees Ray, HTTP or a tensor.

A call's life here: lease its model, prepare its rows on a worker thread, submit them to the engine, and turn the
outputs into events until every row has ended or the caller has gone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from services.engine.async_engine import AsyncEngine
from services.engine.contract import Params, Task
from services.engine.engine import Engine
from services.engine.errors import EngineUnhealthy, QueueFull, RowFailed
from services.engine.submission import Submission
from services.families import Load, LoadedModel
from services.model_pool import ModelPool
from services.replica_report import Reporter
from services.row_events import row_events
from shared.calls import Call
from shared.config.models import AnyService
from shared.errors import DeadlineExceeded, InternalError, InvalidRequest, Overloaded, ServiceError, UnsupportedTask
from shared.events import Failed, RowEvent
from shared.reports import ReplicaReport
from shared.tracebacks import where

log = structlog.get_logger(__name__)

PREPARE_THREADS = 4


class ServiceUnusable(Exception):
    """None of the service's models could be loaded, so this replica would answer nothing."""


class ModelService:
    """Every method belongs to one event loop. `hold_s` bounds how long a call waits for its model, in seconds."""

    def __init__(
        self,
        config: AnyService,
        *,
        replica: str,
        hold_s: float,
        resolve: Callable[[str], Path],
        loader: Callable[[str], Load],
    ) -> None:
        self._config = config
        self._hold_s = hold_s
        self._core = Engine({}, max_waiting_cost=config.max_waiting_cost)
        self._engine = AsyncEngine(self._core, hung_step_s=config.hung_step_s)
        self._pool = ModelPool(self._engine, resolve=resolve, loader=loader)
        self._reporter = Reporter(config.name, replica, stats=self._engine.stats)
        self._threads = ThreadPoolExecutor(PREPARE_THREADS, thread_name_prefix="prepare")
        self._warming: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the engine and load the models that fit. ServiceUnusable if none loads; the engine is stopped then."""
        await self._engine.start()
        self._pool.apply(self._config)
        await self._pool.warm_up()
        slots = self._pool.slots
        if not any(slot.loaded for slot in slots.values()):
            await self.stop()
            causes = "; ".join(f"{model}: {slot.error or 'does not fit'}" for model, slot in slots.items())
            raise ServiceUnusable(f"no model of service '{self._config.name}' could be loaded ({causes})")

    def apply(self, config: AnyService) -> None:
        """Follow a changed configuration; new and changed models load in the background, others serve on."""
        if config.hung_step_s != self._config.hung_step_s:
            log.warning("hung_step_s_unchanged", reason="a replica reads it once, as it starts")
        self._config = config
        self._core.max_waiting_cost = config.max_waiting_cost
        self._pool.apply(config)
        if self._warming is not None:
            self._warming.cancel()  # the loads that it began go on
        self._warming = asyncio.create_task(self._pool.warm_up())

    async def stop(self) -> None:
        """End the engine's thread; rows that are left end with an error. Safe to call twice."""
        if self._warming is not None:
            self._warming.cancel()
        await self._pool.close()
        await self._engine.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def report(self) -> ReplicaReport:
        return self._reporter.report(self._pool.slots)

    def check_health(self) -> None:
        """Raises EngineUnhealthy: the engine's thread died, a step hangs, or the device failed."""
        self._engine.health()

    async def stream(self, call: Call) -> AsyncGenerator[list[RowEvent], None]:
        """Run one call, yielding its events as `shared.events` orders them. Its failures are events, not exceptions.

        Closing the generator, or cancelling whoever waits on it, frees the rows at the next step boundary.
        """
        try:
            async with aclosing(self._run(call)) as events:
                async for batch in events:
                    yield batch
        except ServiceError as error:
            yield [RowEvent(0, Failed.of(error))]
        except Exception as error:
            log.error("call_failed", request_id=call.request_id, model=call.model, cause=where(error))
            yield [RowEvent(0, Failed.of(InternalError()))]

    async def _run(self, call: Call) -> AsyncGenerator[list[RowEvent], None]:
        deadline, wait_s = None, self._hold_s
        if call.deadline_s is not None:
            deadline = time.monotonic() + call.deadline_s  # the engine's clock, and the event loop's
            wait_s = min(wait_s, call.deadline_s)
        async with self._pool.lease(call.model, wait_s=wait_s) as model:
            task = _task(model, call)
            rows = await self._prepare(task, call, deadline)
            submission = self._submit(call, rows, deadline)
            events = row_events(
                submission,
                rows=len(rows),
                encode=task.encode,
                report=partial(_report_row, call),
                flush_s=call.flush_s,
                threads=self._threads if task.encodes_slowly else None,
            )
            try:
                async with aclosing(events):
                    async for batch in events:
                        yield batch
            finally:
                submission.abort()

    async def _prepare(self, task: Task[Any, Any, Any, Any], call: Call, deadline: float | None) -> Sequence[Params]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(deadline):
                return await loop.run_in_executor(self._threads, task.prepare, call.body)
        except TimeoutError:
            raise DeadlineExceeded("The request's deadline passed while it was prepared.") from None

    def _submit(self, call: Call, rows: Sequence[Params], deadline: float | None) -> Submission:
        priority = int(call.priority)
        try:
            return self._engine.submit(
                call.model, rows, tenant=call.tenant, weight=call.weight, priority=priority, deadline=deadline
            )
        except QueueFull as full:
            raise _refusal(full, self._reporter.retry_after_s()) from None
        except EngineUnhealthy:
            raise Overloaded("This replica is being replaced.", retry_after=1.0) from None


def _task(model: LoadedModel, call: Call) -> Task[Any, Any, Any, Any]:
    task = model.tasks.get(call.task)
    if task is None:
        raise UnsupportedTask(model=call.model, task=call.task, tasks=tuple(sorted(model.tasks)))
    return task


def _refusal(full: QueueFull, retry_after_s: float) -> ServiceError:
    if full.got > full.limit:
        message = f"The request asks for {full.got:g} units of work; at most {full.limit:g} are allowed."
        return InvalidRequest(message, code="request_too_costly")
    message = f"{full.waiting:g} units of work wait already, of at most {full.limit:g}; {full.got:g} were asked for."
    return Overloaded(message, retry_after=retry_after_s)


def _report_row(call: Call, row: int, error: BaseException | None) -> None:
    log.error(
        "row_failed",
        request_id=call.request_id,
        model=call.model,
        row=row,
        error=str(error) if isinstance(error, RowFailed) else None,  # the engine's own words
        cause=None if error is None else where(error),
    )
