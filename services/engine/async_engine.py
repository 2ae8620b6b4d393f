"""Owns the engine as the event loop sees it: submissions, drain, health. Never sees what a sampler does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Thread
from typing import Any

from services.engine.admission import row_costs
from services.engine.backlog import Share, Waiting
from services.engine.contract import Params, Sampler
from services.engine.engine import Engine
from services.engine.errors import Draining, EngineError, EngineUnhealthy, UnknownModel
from services.engine.rows import Output
from services.engine.stats import ModelStats
from services.engine.submission import Submission
from services.engine.worker import Answer, Command, Job, Worker


class AsyncEngine:
    """An engine on a thread of its own, for one event loop. Its methods are that loop's, but `stats` and `waiting`,
    which are any thread's.

    No method waits for a running step, except those that are coroutines. If the thread dies or the device fails, every
    unfinished row ends with ERROR, `health` raises, and no more work is taken. `max_outbox` is explained at
    `Submission`; `hung_step_s` is the longest that one step may take.
    """

    def __init__(self, engine: Engine, *, hung_step_s: float = 60.0, max_outbox: int = 4096) -> None:
        self._engine = engine
        self._hung_step_s = hung_step_s
        self._max_outbox = max_outbox
        self._worker = Worker(engine, deliver=self._deliver, ended=self._end)
        self._thread: Thread | None = None
        self._ended: EngineUnhealthy | None = EngineUnhealthy("the engine has not been started")
        self._draining = False
        self._open: set[Submission] = set()
        self._commands: set[asyncio.Future[None]] = set()
        self._idle = asyncio.Event()  # nothing is open
        self._idle.set()
        self._gone = asyncio.Event()  # the thread ended

    async def start(self) -> None:
        """Start the thread and bind it to the running event loop. RuntimeError on the second call."""
        if self._thread is not None:
            raise RuntimeError("an engine is started once")
        self._ended = None
        self._thread = self._worker.start(asyncio.get_running_loop())

    def submit(
        self,
        model: str,
        rows: Sequence[Params],
        *,
        tenant: str = "default",
        weight: float = 1.0,
        priority: int = 1,
        deadline: float | None = None,
    ) -> Submission:
        """Queue a request's rows, all or none. Smaller priorities go first; `deadline` is on the engine's clock.

        Raises EngineUnhealthy, Draining, UnknownModel, QueueFull, and ValueError for no rows, a cost that is negative
        or not finite, or a bad weight or deadline. What only the engine's thread can find ends the rows with ERROR.
        """
        self._check_alive()
        if self._draining:
            raise Draining("the engine takes no new work")
        if model not in self._engine.models:
            raise UnknownModel(model)
        cost = sum(row_costs(rows, weight=weight, deadline=deadline))
        submission = Submission(len(rows), max_outbox=self._max_outbox, abort=self._worker.abort)
        refuse = partial(self._fail, submission)
        now = self._engine.clock()
        share = Share(priority, tenant, weight)
        self._worker.put(Job(submission, model, rows, cost, share, deadline, now, refuse))
        self._open.add(submission)
        self._idle.clear()
        return submission

    async def register(self, model: str, sampler: Sampler[Any, Any, Any], *, base: str | None = None) -> None:
        """Host a model from the next step boundary on. Raises as `Engine.register`, and EngineUnhealthy."""
        await self._command(partial(self._engine.register, model, sampler, base=base))

    async def unregister(self, model: str) -> None:
        """Forget a model between two steps. Raises as `Engine.unregister` (ModelBusy), and EngineUnhealthy."""
        await self._command(partial(self._engine.unregister, model))

    async def drain(self, timeout_s: float) -> bool:
        """Take no new work from now on, and wait for what was accepted. Whether all of it ended in time."""
        self._draining = True
        if self._open:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._idle.wait()
            except TimeoutError:
                return False
        return True

    async def stop(self) -> None:
        """End the thread after its current step; unfinished rows end with ERROR. Safe to call twice."""
        if self._thread is None:
            return
        self._worker.stop()
        await self._gone.wait()
        self._thread.join()

    def health(self) -> None:
        """EngineUnhealthy if the thread ended, the device failed, or the running step has taken too long."""
        self._check_alive()
        since = self._worker.busy_since
        if since is not None and (seconds := self._engine.clock() - since) > self._hung_step_s:
            raise EngineUnhealthy(f"a step has been running for {seconds:.0f} s")

    def stats(self) -> Mapping[str, ModelStats]:
        """Counters by model, as of the last step boundary."""
        return self._engine.stats()

    def waiting(self, model: str) -> tuple[Waiting, ...]:
        """What waits for a model now, by priority and tenant, with all that was submitted."""
        return self._engine.waiting(model)

    def _check_alive(self) -> None:
        if self._ended is not None:
            raise EngineUnhealthy(str(self._ended)) from self._ended
        if (failure := self._engine.failure) is not None:
            raise EngineUnhealthy(f"the device failed: {failure}") from failure

    async def _command(self, run: Callable[[], None]) -> None:
        self._check_alive()
        done = asyncio.get_running_loop().create_future()
        self._commands.add(done)
        done.add_done_callback(self._commands.discard)
        self._worker.command(Command(run, partial(_settle, done)))
        await done

    def _deliver(self, outputs: Sequence[tuple[Submission, Output]], answers: Sequence[Answer]) -> None:
        for submission, output in outputs:
            submission.push(output)
            if submission.finished:
                self._close(submission)
        for answer in answers:
            answer()

    def _fail(self, submission: Submission, error: EngineError) -> None:
        submission.fail(error)
        self._close(submission)

    def _close(self, submission: Submission) -> None:
        self._open.discard(submission)
        if not self._open:
            self._idle.set()

    def _end(self, reason: EngineUnhealthy) -> None:
        """The thread is gone: nobody waits for it in vain."""
        self._ended = reason
        for submission in list(self._open):
            self._fail(submission, reason)
        for done in list(self._commands):
            _settle(done, reason)
        self._gone.set()


def _settle(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.done():  # whoever waited was cancelled
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
