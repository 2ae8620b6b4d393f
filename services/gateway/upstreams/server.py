"""Owns one remote server: tries, retries, the circuit breaker, and what it reports. Never sees our clients' HTTP."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from services.gateway.logs import Log
from services.gateway.upstreams.breaker import Breaker, Pass
from services.gateway.upstreams.failures import (
    Curtain,
    Failure,
    TryFailed,
    failure_of_status,
    failure_of_transport,
    late,
)
from services.gateway.upstreams.ongoing import Ongoing
from services.gateway.upstreams.reading import body_of, read_answer
from services.gateway.upstreams.sse import BadStream
from services.gateway.upstreams.tally import Tally
from services.gateway.upstreams.wire import AnswerRows, RemoteCall, remote_call
from shared.calls import Call
from shared.config.upstream import UpstreamService
from shared.errors import DeadlineExceeded, ModelNotFound, Overloaded, UpstreamFailed
from shared.events import Accepted, Finished, RowEvent
from shared.reports import ReplicaReport

MAX_REFUSAL = 64 * 2**10  # bytes of an error's body
REPLICA = "remote"
TRACE_HEADER = "traceparent"
DEADLINE_HEADER = "x-castalia-deadline-ms"  # another Castalia ends what comes too late; others pass it over


@dataclass(frozen=True, slots=True)
class Timing:
    """Time, in seconds, and chance: what a test plays."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    rng: random.Random = field(default_factory=random.Random)


@dataclass(slots=True)
class _Job:
    """One call on its way. `ends` is when its deadline is over, on the clock; `is_counted`: the breaker knows of it."""

    call: Call
    remote: RemoteCall
    curtain: Curtain
    ends: float
    is_counted: bool = False


class RemoteServer:
    """One service of family upstream. `secret` is the key that it wants; None: it takes none."""

    def __init__(
        self, config: UpstreamService, secret: str | None, client: httpx.AsyncClient, log: Log, timing: Timing
    ) -> None:
        self.config = config
        self._client = client
        self._log = log
        self._timing = timing
        self._url = config.url.rstrip("/")
        self._headers = httpx.Headers({"accept-encoding": "identity", "user-agent": "castalia"})  # hides keys in repr
        if secret is not None:
            self._headers["authorization"] = f"Bearer {secret}"
        self._hidden = [word for word in (secret, httpx.URL(config.url).host) if word]
        self._models = {model.id: model for model in config.models}
        self._tallies = {model.id: Tally() for model in config.models}
        rules = config.breaker
        self._breaker = Breaker(failures=rules.failures, pause_s=rules.pause_s, clock=timing.clock)
        self._ongoing = Ongoing()

    def take_over(self, before: RemoteServer) -> None:
        """Go on with the record of one that reaches the same server by the same key; another's says nothing here."""
        key = "authorization"
        if (before._url, before._headers.get(key)) != (self._url, self._headers.get(key)):
            return
        self._ongoing = before._ongoing
        self._tallies = {id_: before._tallies.get(id_, tally) for id_, tally in self._tallies.items()}
        if before.config.breaker == self.config.breaker:
            self._breaker = before._breaker

    def report(self) -> ReplicaReport:
        """What the board hears. "failed": nothing is sent there for now, so that routes lead elsewhere."""
        state = "failed" if self._breaker.wait_s > 0 else "ready"
        models = tuple(self._tallies[model.id].report(model, state) for model in self.config.models)
        return ReplicaReport(self.config.name, REPLICA, models)

    async def stream(self, call: Call) -> AsyncGenerator[list[RowEvent], None]:
        """See `Dispatcher.stream`. Only what failed before the first byte is tried again. Raises ServiceError.

        A call is accepted once there is room for it here: how long the server takes to begin is its own affair.
        """
        job, tally, ongoing = self._job(call), self._tallies[call.model], self._ongoing
        if self._breaker.wait_s > 0:
            raise UpstreamFailed(call.model, retry_after=self._breaker.wait_s)
        if not ongoing.enter(call.tenant, most=self.config.max_ongoing):
            message = f"The server behind model '{call.model}' has as many requests of this gateway as it may."
            raise Overloaded(message, retry_after=1.0)
        tally.running_rows += job.remote.rows
        try:
            yield [RowEvent(0, Accepted(job.remote.rows))]
            async with aclosing(self._run(job)) as batches:
                async for batch in batches:
                    tally.took(batch)
                    yield batch
        except TryFailed as failed:
            self._note("upstream_failed", job, failed.failure)
            raise failed.failure.error from failed
        finally:
            ongoing.leave(call.tenant)
            tally.running_rows -= job.remote.rows

    def _job(self, call: Call) -> _Job:
        model = self._models.get(call.model)
        if model is None:  # routed by an older configuration
            raise ModelNotFound(call.model)
        ends = self._timing.clock() + (float("inf") if call.deadline_s is None else call.deadline_s)
        curtain = Curtain(model.id, model.remote_id, self._hidden)
        return _Job(call, remote_call(call.body, model.remote_id, call.tenant), curtain, ends)

    async def _run(self, job: _Job) -> AsyncGenerator[list[RowEvent], None]:
        response = await self._open(job)
        answer = read_answer(response, AnswerRows(job.remote), job.curtain, lambda: self._left_s(job) <= 0)
        try:
            async with aclosing(answer):
                async for batch in answer:
                    if any(isinstance(event, Finished) for _, event in batch):
                        self._breaker.succeeded()  # nobody asks for what comes after the last batch
                    yield batch
        except TryFailed as failed:
            if failed.failure.is_fault:
                self._failed(job)
            raise
        finally:
            await response.aclose()  # of an answer that is not whole, this closes the connection

    async def _open(self, job: _Job) -> httpx.Response:
        """The first answer of 2xx, its body unread. Raises TryFailed, or what `_ask` does."""
        rules = self.config.retries

        def pause_s(state: RetryCallState) -> float:
            """A random share of an exponential: full jitter (Brooker, AWS Architecture Blog, 2015)."""
            longest_s = min(rules.longest_s, rules.base_s * 2 ** (state.attempt_number - 1))
            return max(self._timing.rng.uniform(0, longest_s), _failure_in(state).retry_after or 0.0)

        def is_enough(state: RetryCallState) -> bool:
            pause = state.upcoming_sleep
            return state.attempt_number >= rules.attempts or pause > rules.longest_s or pause >= self._left_s(job)

        tries = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, TryFailed) and error.failure.is_transient),
            wait=pause_s,
            stop=is_enough,
            sleep=self._timing.sleep,
            before_sleep=lambda state: self._note("upstream_retry", job, _failure_in(state)),
            reraise=True,
        )
        return await tries(self._try, job)

    async def _try(self, job: _Job) -> httpx.Response:
        left_s = self._left_s(job)
        if left_s <= 0:
            raise late()
        timeouts = self.config.timeouts
        bound_s = None if left_s == float("inf") else left_s
        silence_s = min(timeouts.silence_s, left_s) if job.remote.stream else bound_s
        headers = httpx.Headers({**self._headers, "content-type": "application/json"})
        if bound_s is not None:
            headers[DEADLINE_HEADER] = str(max(1, int(bound_s * 1e3)))
        if job.call.traceparent is not None:
            headers[TRACE_HEADER] = job.call.traceparent
        request = self._client.build_request(
            "POST",
            self._url + job.remote.path,
            content=job.remote.content(),
            headers=headers,
            timeout=httpx.Timeout(silence_s, connect=min(timeouts.connect_s, left_s)),
        )
        return await self._ask(request, job)

    async def _ask(self, request: httpx.Request, job: _Job) -> httpx.Response:
        """One try, which the breaker hears of. Raises TryFailed, or UpstreamFailed while the circuit is open."""
        leave = self._breaker.enter()
        if leave is None:
            raise UpstreamFailed(job.call.model, retry_after=self._breaker.wait_s)
        try:
            response = await self._sent(request, job)
        except TryFailed as failed:
            self._judge(leave, failed.failure, job)
            raise
        except BaseException:  # cancelled: nothing is known
            self._breaker.gave_up(leave)
            raise
        self._breaker.answered(leave)
        return response

    def _judge(self, leave: Pass, failure: Failure, job: _Job) -> None:
        if failure.is_fault:
            self._failed(job, leave)
        elif isinstance(failure.error, DeadlineExceeded):
            self._breaker.gave_up(leave)
        else:  # it refuses the request, and so it works
            self._breaker.answered(leave)
            self._breaker.succeeded()

    def _failed(self, job: _Job, leave: Pass | None = None) -> None:
        self._breaker.failed(leave, is_first=not job.is_counted)
        job.is_counted = True

    async def _sent(self, request: httpx.Request, job: _Job) -> httpx.Response:
        try:
            response = await self._client.send(request, stream=True)
        except httpx.HTTPError as error:
            raise TryFailed(failure_of_transport(error, job.curtain, is_late=self._left_s(job) <= 0)) from error
        if response.is_success:
            return response
        body = b""
        try:
            body = await body_of(response, most=MAX_REFUSAL)
        except (httpx.HTTPError, BadStream):
            pass  # the status says enough
        finally:
            await response.aclose()
        raise TryFailed(failure_of_status(response.status_code, response.headers, body, job.curtain))

    def _left_s(self, job: _Job) -> float:
        return job.ends - self._timing.clock()

    def _note(self, event: str, job: _Job, failure: Failure) -> None:
        log = self._log.error if failure.is_fault else self._log.warning
        log(event, request_id=job.call.request_id, service=self.config.name, model=job.call.model, cause=failure.cause)


def _failure_in(state: RetryCallState) -> Failure:
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, TryFailed), "nothing else is tried again"
    return error.failure
