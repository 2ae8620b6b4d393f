"""Owns reaching replicas through Ray Serve handles, and what Ray's errors mean. Never sees HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Generator, Sequence, Set
from contextlib import aclosing, contextmanager
from contextvars import Context
from typing import Any, cast

import grpc
from ray.exceptions import ObjectLostError, RayActorError, TaskCancelledError, WorkerCrashedError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from services.gateway.dispatcher import NotTaken, ReplicaLost
from services.gateway.hurry import hurry
from shared.calls import Call
from shared.errors import Overloaded
from shared.events import HEARTBEAT_S, RowEvent
from shared.reports import ReplicaReport

REPLICA_DEPLOYMENT = "Replica"
# A slow replica is waited for as long as this if another has answered: less than half of the time for which the board
# trusts a report, so that with the next it knows of the others without a gap.
PATIENCE_S = 0.4
# A node that is cut off ends no connection. A replica whose loop stands still for so long is about to be replaced.
LONGEST_SILENCE_S = 4 * HEARTBEAT_S
_LOST = (
    RayActorError,  # died, or cannot be reached
    WorkerCrashedError,
    ObjectLostError,  # what it had sent went with it
    TaskCancelledError,  # by Ray: our own cancellation leaves the generator by another way
    ReplicaUnavailableError,
    DeploymentUnavailableError,
)
_LOST_CODES = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})


class ServeDispatcher:
    """A `Dispatcher` over Ray Serve: each service is an application of its own with one deployment."""

    def __init__(
        self,
        make_handle: Callable[[str, str], DeploymentHandle[object]] = DeploymentHandle,
        *,
        silence_s: float = LONGEST_SILENCE_S,
    ) -> None:
        """`make_handle` takes the names of a deployment and its application.

        A handle is made without asking Ray whether its deployment exists: calls wait until it does. A replica that says
        nothing for `silence_s`, not even that it lives, is lost.
        """
        self._make_handle = make_handle
        self._silence_s = silence_s
        self._handles: dict[str, DeploymentHandle[object]] = {}

    async def stream(self, service: str, call: Call) -> AsyncGenerator[list[RowEvent], None]:
        """See `Dispatcher.stream`. Ray holds the call while the service has no replica."""
        handle = self._handle(service).options(method_name="stream", stream=True)
        # In a context of its own: Ray's router knows a call by the HTTP request in whose context it is made, and one
        # request may make several at a time (a copy, a batch's lines).
        answer = Context().run(handle.remote, call)
        hurry(handle)
        response = cast("DeploymentResponseGenerator[list[RowEvent]]", answer)
        try:
            async with aclosing(self._heard(response)) as batches:
                with _ray_errors():
                    async for batch in batches:
                        yield batch
        finally:
            response.cancel()  # does nothing to a stream that has ended

    async def _heard(self, response: AsyncIterable[list[RowEvent]]) -> AsyncGenerator[list[RowEvent], None]:
        """Its batches but the empty ones. ReplicaLost where there are none of those either; NotTaken if never."""
        coming = aiter(response)
        lost: type[ReplicaLost] = NotTaken
        while True:
            timer = asyncio.timeout(self._silence_s)
            try:
                async with timer:
                    batch = await anext(coming)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if not timer.expired():
                    raise
                raise lost(f"nothing was heard of it for {self._silence_s:g} seconds") from None
            lost = ReplicaLost
            if batch:
                yield batch

    async def ping(self, service: str) -> None:
        with _ray_errors():
            handle = self._handle(service).options(method_name="ping")
            answer = handle.remote()
            hurry(handle)
            await answer

    async def reports(self, service: str) -> Sequence[ReplicaReport]:
        """See `Dispatcher.reports`. A replica that fails meanwhile, or is much slower than another, is left out."""
        with _ray_errors():
            response = self._handle(service).broadcast("report")
            try:
                # What is public of it gives all answers or none: one hung replica would hide the others.
                replicas = await response._fetch_replica_results_async()  # pyright: ignore[reportPrivateUsage]
            except DeploymentUnavailableError:  # no replica
                return ()
            answers = await _in_time([replica.get_async() for replica in replicas])
        return [answer for answer in answers if isinstance(answer, ReplicaReport)]

    async def close(self) -> None:
        """Ray keeps its handles."""

    def _handle(self, service: str) -> DeploymentHandle[object]:
        handle = self._handles.get(service)
        if handle is None:
            handle = self._handles[service] = self._make_handle(REPLICA_DEPLOYMENT, service)
        return handle


async def _in_time(asked: Sequence[Awaitable[Any]]) -> Sequence[Any]:
    """What came within `PATIENCE_S`, else what comes first; in place of the others, an exception."""
    answers = [asyncio.ensure_future(each) for each in asked]
    late: Set[asyncio.Future[Any]] = set(answers)
    until = asyncio.get_running_loop().time() + PATIENCE_S
    try:
        while late:
            left_s = until - asyncio.get_running_loop().time()
            has_answer = any(answer.done() and not _failed(answer) for answer in answers)
            if has_answer and left_s <= 0:
                break
            _, late = await asyncio.wait(
                late, timeout=left_s if left_s > 0 else None, return_when=asyncio.FIRST_COMPLETED
            )
    finally:
        for answer in answers:
            answer.cancel()
    return await asyncio.gather(*answers, return_exceptions=True)


def _failed(answer: asyncio.Future[Any]) -> bool:
    return answer.cancelled() or answer.exception() is not None


@contextmanager
def _ray_errors() -> Generator[None]:
    """Turn Ray's errors into ReplicaLost and Overloaded; what the replica's own code raised passes through."""
    try:
        yield
    except BackPressureError as error:
        raise Overloaded("Too many requests wait for this model.", retry_after=error.retry_after_s) from error
    except _LOST as error:
        raise ReplicaLost(str(error)) from error
    except grpc.aio.AioRpcError as error:
        if error.code() in _LOST_CODES:
            raise ReplicaLost(str(error.code())) from error
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling() == 0:  # nobody cancelled us: the other side hung up
            raise ReplicaLost("the replica cancelled the call") from error
        raise
