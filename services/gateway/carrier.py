"""Owns one call's way to a replica and its events' way back: holding, deadlines, one second try. Never sees HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from services.gateway.dispatcher import Dispatcher, ReplicaLost
from services.gateway.logs import Log
from services.gateway.problems import CallFailed
from shared.calls import Call
from shared.errors import DeadlineExceeded, ModelLoading, Overloaded, ServiceError
from shared.events import Accepted, Failed, Finished, RowEvent

Sink = Callable[[Sequence[RowEvent]], Awaitable[None]]

# The replica refuses late rows itself, typed; this is how much later the gateway stops waiting for its word.
DEADLINE_GRACE_S = 1.0
LOADING_RETRY_AFTER_S = 5.0  # reports say nothing of load times, and a service at rest has nobody to report


@dataclass(frozen=True, slots=True)
class Errand:
    """A call and where it goes. `hold_s` bounds the wait for `Accepted`, in seconds.

    None means no bound but the deadline: for a call whose events all come at its end (`flush_s` None), so that
    waiting and running cannot be told apart. `is_ready` says whether some replica has the model loaded.
    """

    service: str
    call: Call
    deadline_s: float
    hold_s: float | None
    is_ready: Callable[[], bool]


class Carrier:
    """Carries errands. One carrier serves all requests."""

    def __init__(self, dispatcher: Dispatcher, log: Log, *, grace_s: float = DEADLINE_GRACE_S) -> None:
        self._dispatcher = dispatcher
        self._log = log
        self._grace_s = grace_s

    async def carry(self, errand: Errand, sink: Sink) -> None:
        """Give every batch of events to `sink`, in order, until the last row has ended.

        A replica that is lost before it accepted the call is tried around once. Raises CallFailed with a replica's
        failure (after its batch went to the sink), ModelLoading, Overloaded or DeadlineExceeded. Cancelling frees
        the request on the replica.

        A replica predicts when its model will be loaded, and its refusal says so; where no replica spoke,
        ModelLoading says `LOADING_RETRY_AFTER_S`.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        end = started + errand.deadline_s + self._grace_s
        first = end if errand.hold_s is None else started + min(errand.deadline_s, errand.hold_s)
        rows = _Rows()
        try:
            async with asyncio.timeout_at(first) as timer:
                try:
                    await self._follow(errand, errand.deadline_s, rows, sink, lambda: timer.reschedule(end))
                except ReplicaLost as lost:
                    self._note_lost(errand, lost)
                    if rows.accepted:
                        raise _lost_for_good() from None
                    left_s = started + errand.deadline_s - loop.time()
                    await self._follow(errand, left_s, rows, sink, lambda: timer.reschedule(end))
        except TimeoutError:
            raise _late(errand, accepted=rows.accepted) from None
        except ReplicaLost as lost:
            self._note_lost(errand, lost)
            raise _lost_for_good() from None

    async def _follow(
        self, errand: Errand, deadline_s: float, rows: _Rows, sink: Sink, on_accepted: Callable[[], None]
    ) -> None:
        stream = self._dispatcher.stream(errand.service, replace(errand.call, deadline_s=deadline_s))
        async with aclosing(stream):
            async for batch in stream:
                was_accepted = rows.accepted
                failure = rows.take(batch)
                if rows.accepted and not was_accepted:
                    on_accepted()
                await sink(batch)
                if failure is not None:
                    raise CallFailed(failure)
                if rows.all_ended:
                    return
        raise ReplicaLost("the replica ended the stream before every row had ended")

    def _note_lost(self, errand: Errand, lost: ReplicaLost) -> None:
        cause = lost.__cause__ or lost
        self._log.warning("replica_lost", request_id=errand.call.request_id, service=errand.service, cause=repr(cause))


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


def _lost_for_good() -> ServiceError:
    return Overloaded("The replica that ran this request was lost; please try again.", retry_after=1.0)


def _late(errand: Errand, *, accepted: bool) -> ServiceError:
    model, hold_s = errand.call.model, errand.hold_s
    if accepted or hold_s is None:
        return DeadlineExceeded(f"The request did not finish within its deadline of {errand.deadline_s:.3g} seconds.")
    waited_s = min(errand.deadline_s, hold_s)
    if not errand.is_ready():
        message = f"Model '{model}' is not loaded yet; the request was held for {waited_s:.3g} seconds."
        return ModelLoading(message, retry_after=LOADING_RETRY_AFTER_S)
    if hold_s < errand.deadline_s:
        return Overloaded(f"Model '{model}' took no request for {waited_s:.3g} seconds.", retry_after=1.0)
    return DeadlineExceeded(f"The request was not started within its deadline of {errand.deadline_s:.3g} seconds.")
