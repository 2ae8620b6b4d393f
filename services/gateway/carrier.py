"""Owns one call's way to a replica and its events' way back: holding, deadlines, other tries. Never sees HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from services.gateway.dispatcher import Dispatcher, NotTaken, ReplicaLost
from services.gateway.logs import Log
from services.gateway.problems import CallFailed, failure_of
from shared.calls import Call
from shared.errors import DeadlineExceeded, ModelLoading, ModelNotFound, Overloaded, ServiceError
from shared.events import Accepted, Failed, Finished, RowEvent, Started

Sink = Callable[[Sequence[RowEvent]], Awaitable[None]]

# The replica refuses late rows itself, typed; this is how much later the gateway stops waiting for its word.
DEADLINE_GRACE_S = 1.0
LOADING_RETRY_AFTER_S = 5.0  # reports say nothing of load times, and a service at rest has nobody to report
FALLBACK_AFTER_S = 2.0
# A changed configuration reaches gateways and replicas at different moments, this far apart at most.
SKEW_S = 10.0
SKEW_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class Target:
    """A call, and the service that may run it. `is_ready` says whether some replica has the model loaded."""

    service: str
    call: Call
    is_ready: Callable[[], bool]


def _unchanged() -> Errand | None:
    return None


def _nobody_waits() -> None:
    """Nobody counts what is on its way."""


@dataclass(frozen=True, slots=True)
class Errand:
    """A call and where it goes: to the first of `targets`, which are not empty, else to the next that answers.

    `hold_s` bounds the wait for `Accepted`, in seconds. None means no bound but the deadline: for a call whose events
    all come at its end (`flush_s` None), so that waiting and running cannot be told apart. `renewed` makes the errand
    again by a configuration that came since; None if none did. It raises what making an errand does. `ended` is
    called once it is carried, well or badly.
    """

    targets: tuple[Target, ...]
    deadline_s: float
    hold_s: float | None
    renewed: Callable[[], Errand | None] = _unchanged
    ended: Callable[[], None] = _nobody_waits

    def is_ready(self) -> bool:
        return any(target.is_ready() for target in self.targets)


def _ignore(_: Target) -> None:
    """Nobody asks who answers."""


@dataclass(slots=True)
class _Trip:
    """One errand on its way. `is_bound`: the client has seen a part of an answer, so no other target may answer."""

    sink: Sink
    began: Callable[[Target], None]
    restarts: bool
    started: float
    deadline_s: float
    end: float  # when the gateway stops waiting
    is_bound: bool = False

    def left_s(self) -> float:
        return self.started + self.deadline_s - asyncio.get_running_loop().time()

    async def give(self, batch: Sequence[RowEvent]) -> None:
        answers = any(not isinstance(event, Accepted | Started | Failed) for _, event in batch)
        self.is_bound = self.is_bound or (answers and not self.restarts)
        await self.sink(batch)


class Carrier:
    """Carries errands. One carrier serves all requests.

    `fallback_after_s` is how long a target may take to accept a call while another is ready to.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        log: Log,
        *,
        grace_s: float = DEADLINE_GRACE_S,
        fallback_after_s: float = FALLBACK_AFTER_S,
        skew_s: float = SKEW_S,
    ) -> None:
        self._dispatcher = dispatcher
        self._log = log
        self._grace_s = grace_s
        self._fallback_after_s = fallback_after_s
        self._skew_s = skew_s

    async def carry(
        self, errand: Errand, sink: Sink, *, began: Callable[[Target], None] = _ignore, restarts: bool = False
    ) -> None:
        """Give every batch of events to `sink`, in order, until the last row has ended.

        `began` is told the target whose events come next; those of an earlier one are void. Once a piece of
        the answer came, no other target is tried, unless the sink `restarts`: nothing of it has reached the client.

        A replica that is lost before it accepted the call is tried around once, unless another target may stand in; a
        call that no replica has taken is sent again for as long as there is time. A call whose events all come in one
        message cannot be seen to be accepted, so that it may be computed twice.

        Raises CallFailed with a replica's failure (after its batch went to the sink), ModelLoading, Overloaded or
        DeadlineExceeded; of several targets that failed, what the first one said.
        Cancelling frees the request on the replica.

        A replica predicts when its model will be loaded, and its refusal says so; where no replica spoke,
        ModelLoading says `LOADING_RETRY_AFTER_S`.
        """
        started = asyncio.get_running_loop().time()
        end = started + errand.deadline_s + self._grace_s
        trip = _Trip(sink, began, restarts, started, errand.deadline_s, end)
        try:
            await self._carry(errand, trip)
        finally:
            errand.ended()

    async def _carry(self, errand: Errand, trip: _Trip) -> None:
        while True:
            try:
                await self._try_in_turn(errand, trip)
                return
            except (CallFailed, ServiceError) as error:
                later = await self._later(errand, failure_of(error), trip)
                if later is None:
                    raise
                errand = later

    async def _try_in_turn(self, errand: Errand, trip: _Trip) -> None:
        first: CallFailed | ServiceError | None = None
        for i, target in enumerate(errand.targets):
            others = errand.targets[i + 1 :]
            trip.began(target)
            try:
                await self._try(target, errand.hold_s, trip, others)
                return
            except (CallFailed, ServiceError) as error:
                if trip.is_bound:
                    raise
                first = first or error
                if not others or not _may_pass(failure_of(error)) or trip.left_s() <= 0:
                    raise first from None
                self._log.warning(
                    "fell_back",
                    request_id=target.call.request_id,
                    model=target.call.model,
                    to=others[0].call.model,
                    cause=failure_of(error).code,
                )

    async def _later(self, errand: Errand, failure: Failed, trip: _Trip) -> Errand | None:
        """What to try after all targets failed: the errand by a newer configuration, or again by this one.

        A replica that does not know a model which the gateway knows, or a service that has gone, is ahead of the
        gateway or behind it.
        """
        now = asyncio.get_running_loop().time()
        if trip.is_bound or trip.left_s() <= 0 or not _may_pass(failure):
            return None
        if (newer := errand.renewed()) is not None:
            return newer
        if not _is_unheard_of(failure) or now > trip.started + self._skew_s:
            return None
        await asyncio.sleep(min(SKEW_PAUSE_S, trip.left_s()))
        return errand.renewed() or errand

    async def _try(self, target: Target, hold_s: float | None, trip: _Trip, others: Sequence[Target]) -> None:
        """One target; `others` may stand in for it."""
        loop = asyncio.get_running_loop()
        wait_s = trip.left_s() if hold_s is None else min(trip.left_s(), hold_s)
        if any(other.is_ready() for other in others):
            wait_s = min(wait_s, self._fallback_after_s)
        first = trip.end if hold_s is None else loop.time() + wait_s
        rows = _Rows()
        try:
            async with asyncio.timeout_at(first) as timer:
                await self._send(target, trip, rows, others, lambda: timer.reschedule(trip.end))
        except TimeoutError:
            raise _late(target, trip, wait_s=None if hold_s is None or rows.accepted else wait_s) from None

    async def _send(
        self, target: Target, trip: _Trip, rows: _Rows, others: Sequence[Target], on_accepted: Callable[[], None]
    ) -> None:
        """To a replica; to another if that is lost before it accepted the call; again for as long as none takes it."""
        was_lost = False
        while True:
            try:
                await self._follow(target, trip, rows, others, on_accepted)
                return
            except NotTaken as lost:
                self._note_lost(target, lost)
            except ReplicaLost as lost:
                self._note_lost(target, lost)
                if rows.accepted or others or was_lost:
                    raise _lost_for_good() from None
                was_lost = True

    async def _follow(
        self, target: Target, trip: _Trip, rows: _Rows, others: Sequence[Target], on_accepted: Callable[[], None]
    ) -> None:
        stream = self._dispatcher.stream(target.service, replace(target.call, deadline_s=trip.left_s()))
        async with aclosing(stream):
            async for batch in stream:
                was_accepted = rows.accepted
                failure = rows.take(batch)
                if rows.accepted and not was_accepted:
                    on_accepted()
                if failure is not None and others and not trip.is_bound and _may_pass(failure):
                    raise CallFailed(failure)  # another answers in its place: nobody hears of this
                await trip.give(batch)
                if failure is not None:
                    raise CallFailed(failure)
                if rows.all_ended:
                    return
        raise ReplicaLost("the replica ended the stream before every row had ended")

    def _note_lost(self, target: Target, lost: ReplicaLost) -> None:
        cause = lost.__cause__ or lost
        self._log.warning("replica_lost", request_id=target.call.request_id, service=target.service, cause=repr(cause))


class _Rows:
    """Counts the rows of one call down."""

    def __init__(self) -> None:
        self._open = -1

    @property
    def accepted(self) -> bool:
        return self._open >= 0

    @property
    def all_ended(self) -> bool:
        return self._open == 0

    def take(self, batch: Sequence[RowEvent]) -> Failed | None:
        """Note what ended; return the first failure."""
        for _, event in batch:
            if isinstance(event, Finished):
                self._open -= 1
            elif isinstance(event, Accepted):
                self._open = event.rows
            elif isinstance(event, Failed):
                return event
        return None


def _may_pass(failure: Failed) -> bool:
    """Whether another target may do better: the fault is the server's, and there was time.

    A model that its replica does not know is the server's fault as well: the gateway found it in its configuration.
    """
    return _is_unheard_of(failure) or (failure.status >= 500 and failure.status != DeadlineExceeded.status)


def _is_unheard_of(failure: Failed) -> bool:
    return (failure.status, failure.code) == (ModelNotFound.status, ModelNotFound.code)


def _lost_for_good() -> ServiceError:
    return Overloaded("The replica that ran this request was lost; please try again.", retry_after=1.0)


def _late(target: Target, trip: _Trip, *, wait_s: float | None) -> ServiceError:
    """`wait_s` is how long the call was to wait to be accepted; None if it was, or if nothing could tell."""
    model = target.call.model
    if wait_s is None:
        return DeadlineExceeded(f"The request did not finish within its deadline of {trip.deadline_s:.3g} seconds.")
    if not target.is_ready():
        message = f"Model '{model}' is not loaded yet; the request was held for {round(wait_s, 3):g} seconds."
        return ModelLoading(message, retry_after=LOADING_RETRY_AFTER_S)
    if trip.left_s() > 0:
        return Overloaded(f"Model '{model}' took no request for {round(wait_s, 3):g} seconds.", retry_after=1.0)
    return DeadlineExceeded(f"The request was not started within its deadline of {trip.deadline_s:.3g} seconds.")
