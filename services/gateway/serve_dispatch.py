"""Owns reaching replicas through Ray Serve handles, and what Ray's errors mean. Never sees HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import contextmanager
from typing import cast

import grpc
from ray.exceptions import ObjectLostError, RayActorError, TaskCancelledError, WorkerCrashedError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from services.gateway.dispatcher import ReplicaLost
from shared.calls import Call
from shared.errors import Overloaded
from shared.events import RowEvent
from shared.reports import ReplicaReport

REPLICA_DEPLOYMENT = "Replica"
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

    def __init__(self, make_handle: Callable[[str, str], DeploymentHandle[object]] = DeploymentHandle) -> None:
        """`make_handle` takes the names of a deployment and its application.

        A handle is made without asking Ray whether its deployment exists: calls wait until it does.
        """
        self._make_handle = make_handle
        self._handles: dict[str, DeploymentHandle[object]] = {}

    async def stream(self, service: str, call: Call) -> AsyncGenerator[list[RowEvent], None]:
        """See `Dispatcher.stream`. Ray holds the call while the service has no replica."""
        answer = self._handle(service).options(method_name="stream", stream=True).remote(call)
        response = cast("DeploymentResponseGenerator[list[RowEvent]]", answer)
        try:
            with _ray_errors():
                async for batch in response:
                    yield batch
        finally:
            response.cancel()  # does nothing to a stream that has ended

    async def ping(self, service: str) -> None:
        with _ray_errors():
            await self._handle(service).options(method_name="ping").remote()

    async def reports(self, service: str) -> Sequence[ReplicaReport]:
        """See `Dispatcher.reports`. A replica that fails meanwhile is left out."""
        with _ray_errors():
            try:
                answers = await self._handle(service).broadcast("report").results_async(return_exceptions=True)
            except DeploymentUnavailableError:  # no replica
                return ()
        return [answer for answer in answers if isinstance(answer, ReplicaReport)]

    def _handle(self, service: str) -> DeploymentHandle[object]:
        handle = self._handles.get(service)
        if handle is None:
            handle = self._handles[service] = self._make_handle(REPLICA_DEPLOYMENT, service)
        return handle


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
