"""Owns the engine's thread: takes jobs in, steps the engine, hands outputs to the event loop. Never sees a consumer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Condition, Lock, Thread

from services.engine.backlog import Share
from services.engine.contract import Params
from services.engine.engine import Engine
from services.engine.errors import EngineError, EngineUnhealthy, RowFailed
from services.engine.rows import Output
from services.engine.submission import Submission

log = logging.getLogger(__name__)

Answer = Callable[[], None]  # to be called on the event loop
Deliver = Callable[[Sequence[tuple[Submission, Output]], Sequence[Answer]], None]


@dataclass(frozen=True, slots=True)
class Job:
    """A request on its way to the engine. `deadline` and `submitted_at` are on the engine's clock."""

    submission: Submission
    model: str
    rows: Sequence[Params]
    cost: float
    share: Share
    deadline: float | None
    submitted_at: float
    refuse: Callable[[EngineError], None]  # called on the event loop if the engine does not take the job


@dataclass(frozen=True, slots=True)
class Command:
    """A change made between two steps; `answer` gets what it raised, on the event loop."""

    run: Callable[[], None]
    answer: Callable[[Exception | None], None]


@dataclass(slots=True)
class _Inbox:
    jobs: list[Job] = field(default_factory=list[Job])
    aborts: list[Submission] = field(default_factory=list[Submission])
    commands: list[Command] = field(default_factory=list[Command])

    def __bool__(self) -> bool:
        return bool(self.jobs or self.aborts or self.commands)


class Worker:
    """One thread around one engine, fed through an inbox that it empties at each step boundary.

    The lock guards the inbox alone and is never held while a sampler is called, so whoever fills the inbox never waits
    for a step. An idle thread sleeps until the inbox fills: rows only wait while others run, so no deadline can pass
    meanwhile. What a step delivers goes to the event loop in a single `call_soon_threadsafe`.
    """

    def __init__(self, engine: Engine, *, deliver: Deliver, ended: Callable[[EngineUnhealthy], None]) -> None:
        self._engine = engine
        self._deliver = deliver
        self._ended = ended
        self._wake = Condition(Lock())  # guards the next two
        self._inbox = _Inbox()
        self._stopping = False
        self._requests: dict[Submission, int] = {}  # live ones, and the way back; the thread's own
        self._submissions: dict[int, Submission] = {}
        self._busy_since: float | None = None

    @property
    def busy_since(self) -> float | None:
        """When the running step began, on the engine's clock; None between steps. Safe from any thread."""
        return self._busy_since

    def start(self, loop: asyncio.AbstractEventLoop) -> Thread:
        """Start the thread. It is no daemon: a process that does not call `stop` does not end."""
        thread = Thread(target=self._run, args=(loop,), name="castalia-engine")
        thread.start()
        return thread

    def put(self, job: Job) -> None:
        """Queue the job for the next boundary, or raise QueueFull. From here on its cost counts as waiting."""
        self._engine.check_room(job.share, job.cost)
        self._engine.backlog.enter(job.model, job.share, job.cost, rows=len(job.rows))
        with self._wake:
            self._inbox.jobs.append(job)
            self._wake.notify()

    def abort(self, submission: Submission) -> None:
        with self._wake:
            self._inbox.aborts.append(submission)
            self._wake.notify()

    def command(self, command: Command) -> None:
        with self._wake:
            self._inbox.commands.append(command)
            self._wake.notify()

    def stop(self) -> None:
        """Let the thread end after the step that runs now."""
        with self._wake:
            self._stopping = True
            self._wake.notify()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        reason = EngineUnhealthy("the engine was stopped")
        try:
            while self._turn(loop):
                pass
            for request in list(self._submissions):
                self._engine.abort(request)  # frees the samplers' states
        except BaseException as error:
            log.exception("the engine thread died")
            reason = EngineUnhealthy(f"the engine thread died of {type(error).__name__}")
            reason.__cause__ = error
        self._busy_since = None
        try:
            loop.call_soon_threadsafe(self._ended, reason)
        except RuntimeError:
            log.warning("the event loop was closed before its engine was stopped")

    def _turn(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Sleep until there is something to do, then pass one boundary and one step. False once stopped."""
        with self._wake:
            while not (self._inbox or self._engine.has_work or self._stopping):
                self._wake.wait()
            if self._stopping:
                return False
            inbox, self._inbox = self._inbox, _Inbox()
        self._busy_since = self._engine.clock()
        answers = self._take(inbox)
        self._engine.pass_boundary()
        outputs = self._route(self._engine.advance())
        self._busy_since = None
        if outputs or answers:
            loop.call_soon_threadsafe(self._deliver, outputs, answers)
        return True

    def _take(self, inbox: _Inbox) -> list[Answer]:
        """Jobs first, so that an abort finds its job; commands last, so that they find the aborted rows gone."""
        answers: list[Answer] = []
        for job in inbox.jobs:
            if (error := self._submit(job)) is not None:
                answers.append(partial(job.refuse, error))
        for submission in inbox.aborts:
            if (request := self._requests.get(submission)) is not None:
                self._engine.abort(request)
        for command in inbox.commands:
            answers.append(partial(command.answer, _attempt(command.run)))
        return answers

    def _submit(self, job: Job) -> EngineError | None:
        self._engine.backlog.leave(job.model, job.share, job.cost, rows=len(job.rows))  # the engine counts each
        try:
            request = self._engine.accept(
                job.model, job.rows, job.share, deadline=job.deadline, submitted_at=job.submitted_at
            )
        except EngineError as error:
            return error
        except Exception as error:
            failure = RowFailed(f"the request could not be queued: {type(error).__name__}")
            failure.__cause__ = error
            return failure
        self._requests[job.submission] = request
        self._submissions[request] = job.submission
        return None

    def _route(self, outputs: Sequence[Output]) -> list[tuple[Submission, Output]]:
        routed = [(self._submissions[output.request], output) for output in outputs]
        for submission, output in routed:
            if output.finish_reason is not None and not self._engine.is_live(output.request):
                self._submissions.pop(output.request, None)
                self._requests.pop(submission, None)
        return routed


def _attempt(run: Callable[[], None]) -> Exception | None:
    try:
        run()
    except Exception as error:
        return error
    return None
