"""Owns one service on one replica: its engine, its models, and the life of a call. Never sees Ray, HTTP or a tensor.

A call's life here: lease its model, prepare its rows on a worker thread, submit them to the engine, and turn the
outputs into events until every row has ended or the caller has gone.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from services.admission import Admission
from services.call_trace import CallTrace
from services.engine.async_engine import AsyncEngine
from services.engine.backlog import Share
from services.engine.contract import Params, Task
from services.engine.engine import Engine
from services.engine.errors import EngineUnhealthy, QueueFull, RowFailed
from services.engine.fair_gate import FairGate
from services.engine.submission import Submission
from services.families import Load, LoadedModel
from services.model_pool import ModelPool
from services.replica_report import Reporter
from services.row_events import row_events
from services.scaling.load import ReplicaLoad
from shared.calls import Call
from shared.config.models import HostedService
from shared.errors import DeadlineExceeded, InternalError, InvalidRequest, Overloaded, ServiceError, UnsupportedTask
from shared.events import Failed, RowEvent
from shared.prediction import retry_after_s
from shared.reports import ReplicaReport
from shared.tracebacks import where
from shared.tracing import NO_TRACER, Tracer

log = structlog.get_logger(__name__)

PREPARE_THREADS = 4
MOST_UNPREPARED = (
    512  # calls of one tenant and priority: their costs are unknown, so no bound of a queue holds for them
)
FREQUENT_STREAMS = 8  # as many are sent as often as was asked; more share that number of messages
LONGEST_PAUSE = 6.0  # times as long as was asked
PREPARE_MEMORY = 32  # calls after which the time that one took to be prepared counts for 1/e


class ServiceUnusable(Exception):
    """None of the service's models could be loaded, so this replica would answer nothing."""


class ModelService:
    """Every method belongs to one event loop. `hold_s` bounds how long a call waits for its model, in seconds."""

    def __init__(
        self,
        config: HostedService,
        *,
        replica: str,
        hold_s: float,
        resolve: Callable[[str], Path],
        loader: Callable[[str], Load],
        tracer: Tracer = NO_TRACER,
    ) -> None:
        self._config = config
        self._tracer = tracer
        self._hold_s = hold_s
        self._core = Engine({}, max_waiting_cost=config.max_waiting_cost)
        self._engine = AsyncEngine(self._core, hung_step_s=config.hung_step_s)
        self._pool = ModelPool(self._engine, resolve=resolve, loader=loader)
        self._admission = Admission(self._engine)
        self._reporter = Reporter(config.name, replica, self._engine, self._admission)
        self._gate = FairGate(PREPARE_THREADS)
        self._prepare_s = 0.0  # fading mean of the seconds that a call took of late
        self._threads = ThreadPoolExecutor(PREPARE_THREADS, thread_name_prefix="prepare")
        self._warming: asyncio.Task[None] | None = None
        self._streams = 0  # calls whose events are being sent

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

    def apply(self, config: HostedService) -> None:
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
        try:
            self.check_health()
            healthy = True
        except EngineUnhealthy:
            healthy = False
        return self._reporter.report(self._pool.slots, max_wait_s=self._config.max_wait_s, healthy=healthy)

    def load(self) -> ReplicaLoad:
        return self._reporter.load()

    def check_health(self) -> None:
        """Raises EngineUnhealthy: the engine's thread died, a step hangs, or the device failed."""
        self._engine.health()

    async def stream(self, call: Call) -> AsyncGenerator[list[RowEvent], None]:
        """Run one call, yielding its events as `shared.events` orders them. Its failures are events, not exceptions.

        Closing the generator, or cancelling whoever waits on it, frees the rows at the next step boundary.
        """
        try:
            with CallTrace(self._tracer, call) as trace:
                async with aclosing(self._run(call, trace)) as events:
                    async for batch in events:
                        yield batch
        except ServiceError as error:
            yield [RowEvent(0, Failed.of(error))]
        except Exception as error:
            log.error("call_failed", request_id=call.request_id, model=call.model, cause=where(error))
            yield [RowEvent(0, Failed.of(InternalError()))]

    async def _run(self, call: Call, trace: CallTrace) -> AsyncGenerator[list[RowEvent], None]:
        deadline, wait_s = None, self._hold_s
        if call.deadline_s is not None:
            deadline = time.monotonic() + call.deadline_s  # the engine's clock, and the event loop's
            wait_s = min(wait_s, call.deadline_s)
        async with self._pool.lease(call.model, wait_s=wait_s) as model:
            task = _task(model, call)
            rows = await self._prepare(task, call, deadline)
            submission = self._submit(call, rows, deadline)
            trace.prepared(len(rows))
            events = row_events(
                trace.watch(submission),
                rows=len(rows),
                encode=trace.timed(task.encode),
                report=partial(_report_row, call),
                flush_s=call.flush_s,
                threads=self._threads if task.encodes_slowly else None,
                slowdown=self._slowdown,
            )
            self._streams += 1
            try:
                async with aclosing(events):
                    async for batch in events:
                        yield batch
            finally:
                self._streams -= 1
                submission.abort()

    async def _prepare(self, task: Task[Any, Any, Any, Any], call: Call, deadline: float | None) -> Sequence[Params]:
        loop = asyncio.get_running_loop()
        self._check_unprepared(call, deadline)
        try:
            async with asyncio.timeout_at(deadline), self._gate.passage(_share(call)):
                began = loop.time()
                try:
                    return await loop.run_in_executor(self._threads, task.prepare, call.body, call.tenant)
                finally:
                    self._prepare_s += (loop.time() - began - self._prepare_s) / PREPARE_MEMORY
        except TimeoutError:
            raise DeadlineExceeded("The request's deadline passed while it was prepared.") from None

    def _slowdown(self) -> float:
        """A message costs this process and the gateway most of a millisecond, however little it says: of many streams,
        each is sent less often, and more at a time."""
        return min(LONGEST_PAUSE, max(1.0, self._streams / FREQUENT_STREAMS))

    def _check_unprepared(self, call: Call, deadline: float | None) -> None:
        """Refuse what would wait too long for its turn to be prepared behind its own tenant's calls: Overloaded."""
        waiting = self._gate.waiting(_share(call))
        wait_s = waiting * self._prepare_s / PREPARE_THREADS
        left_s = math.inf if deadline is None else deadline - time.monotonic()
        if waiting >= MOST_UNPREPARED or wait_s > min(left_s, self._config.max_wait_s):
            message = f"{waiting} of your requests wait to be prepared already, for {wait_s:.3g} seconds."
            raise Overloaded(message, retry_after=retry_after_s(wait_s))

    def _submit(self, call: Call, rows: Sequence[Params], deadline: float | None) -> Submission:
        self._learn(call, rows)
        left_s = None if deadline is None else deadline - time.monotonic()
        self._admission.check(call, rows, left_s=left_s, max_wait_s=self._config.max_wait_s)
        priority = int(call.priority)
        try:
            return self._engine.submit(
                call.model, rows, tenant=call.tenant, weight=call.weight, priority=priority, deadline=deadline
            )
        except QueueFull as full:
            excess = full.waiting + full.got - full.limit
            raise _refusal(full, self._admission.retry_after_s(call.model, excess)) from None
        except EngineUnhealthy:
            raise Overloaded("This replica is being replaced.", retry_after=1.0) from None

    def _learn(self, call: Call, rows: Sequence[Params]) -> None:
        slot = self._pool.slots.get(call.model)
        if slot is not None and slot.loaded is not None:
            bound = slot.config.cost_bound(call.body, slot.loaded.limits)
            self._admission.learn(call.model, rows, bound=bound)


def _share(call: Call) -> Share:
    return Share(int(call.priority), call.tenant, call.weight)


def _task(model: LoadedModel, call: Call) -> Task[Any, Any, Any, Any]:
    task = model.tasks.get(call.task)
    if task is None:
        raise UnsupportedTask(model=call.model, task=call.task, tasks=tuple(sorted(model.tasks)))
    return task


def _refusal(full: QueueFull, retry_after_s: float) -> ServiceError:
    if full.got > full.limit:
        message = f"The request asks for {full.got:g} units of work; at most {full.limit:g} are allowed."
        return InvalidRequest(message, code="request_too_costly")
    message = f"{full.waiting:g} of your units of work wait already, of at most {full.limit:g}; got {full.got:g} more."
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
