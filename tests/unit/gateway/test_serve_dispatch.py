"""What Ray's handles and errors mean to the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextvars import ContextVar
from typing import Any

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata
from ray import ActorID
from ray.exceptions import ActorDiedError, ActorUnavailableError, TaskCancelledError, WorkerCrashedError
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

from services.gateway.dispatcher import NotTaken, ReplicaLost
from services.gateway.serve_dispatch import ServeDispatcher
from shared.calls import Call
from shared.errors import Overloaded
from shared.schemas.text import DetokenizeRequest
from tests.unit.gateway.fakes import ACCEPTED, STOPPED, report

CALL = Call(request_id="r", model="m", task="detokenize", body=DetokenizeRequest(model="m", tokens=[]))


def rpc_error(code: grpc.StatusCode) -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata())


class FakeResponse:
    """A stream of batches that may end in an error; awaited, the one answer."""

    def __init__(self, outcome: list[Any]) -> None:
        self._outcome = outcome
        self.cancelled = False
        self.fails_whole = False

    async def _play(self) -> AsyncGenerator[Any]:
        for item in self._outcome:
            if isinstance(item, BaseException):
                raise item
            if isinstance(item, asyncio.Event):
                await item.wait()
            yield item

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._play()

    def __await__(self) -> Any:
        return self._one().__await__()

    async def _one(self) -> Any:
        return await anext(self._play())

    async def _fetch_replica_results_async(self) -> list[FakeResult]:
        if self.fails_whole or isinstance(self._outcome[0], DeploymentUnavailableError):
            raise self._outcome[0]
        return [FakeResult(item) for item in self._outcome]

    def cancel(self) -> None:
        self.cancelled = True


class FakeResult:
    """One replica's part of a broadcast: an answer, an error, or an event that is waited for before an answer."""

    def __init__(self, outcome: Any) -> None:
        self._outcome = outcome

    async def get_async(self) -> Any:
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        if isinstance(self._outcome, asyncio.Event):
            await self._outcome.wait()
            return report(replica="slow")
        return self._outcome


class FakeHandle:
    def __init__(self, outcome: list[Any]) -> None:
        self.response = FakeResponse(outcome)
        self.options_seen: dict[str, Any] = {}

    def options(self, **options: Any) -> FakeHandle:
        self.options_seen = options
        return self

    def remote(self, *_: Any) -> FakeResponse:
        return self.response

    def broadcast(self, method: str) -> FakeResponse:
        assert method == "report"
        return self.response


def dispatcher(*outcome: Any) -> tuple[ServeDispatcher, FakeHandle, list[tuple[str, str]]]:
    handle = FakeHandle(list(outcome))
    made: list[tuple[str, str]] = []

    def make(deployment: str, application: str) -> Any:
        made.append((deployment, application))
        return handle

    return ServeDispatcher(make), handle, made


async def test_a_stream_gives_the_replicas_batches_in_order() -> None:
    serve, handle, made = dispatcher(ACCEPTED, STOPPED)
    assert [batch async for batch in serve.stream("chat", CALL)] == [ACCEPTED, STOPPED]
    assert handle.options_seen == {"method_name": "stream", "stream": True}
    await serve.reports("chat")
    assert made == [("Replica", "chat")]  # one handle a service: each has a router


async def test_calls_made_in_one_context_are_made_in_contexts_of_their_own() -> None:
    """Ray's router tells calls apart by an id that it keeps in the context of the HTTP request."""
    request_id: ContextVar[str] = ContextVar("request_id", default="none")
    request_id.set("http request")
    serve, handle, _ = dispatcher(ACCEPTED)
    seen: list[str] = []
    remote = handle.remote

    def noting(*args: Any) -> FakeResponse:
        seen.append(request_id.get())
        return remote(*args)

    handle.__dict__["remote"] = noting
    await anext(serve.stream("chat", CALL))
    assert seen == ["none"]


async def test_closing_a_stream_cancels_it_at_the_replica() -> None:
    serve, handle, _ = dispatcher(ACCEPTED, asyncio.Event())
    stream = serve.stream("chat", CALL)
    await anext(stream)
    await stream.aclose()
    assert handle.response.cancelled


async def test_cancelling_the_reader_cancels_it_at_the_replica() -> None:
    serve, handle, _ = dispatcher(asyncio.Event())
    reader = asyncio.ensure_future(anext(serve.stream("chat", CALL)))
    await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert handle.response.cancelled


@pytest.mark.parametrize(
    "error",
    [
        ActorDiedError(),
        ActorUnavailableError("unavailable", ActorID.nil().binary()),
        WorkerCrashedError(),
        TaskCancelledError(),
        ReplicaUnavailableError("r"),
        DeploymentUnavailableError(DeploymentID("Replica", "chat")),
        rpc_error(grpc.StatusCode.UNAVAILABLE),
        rpc_error(grpc.StatusCode.CANCELLED),
        asyncio.CancelledError(),  # nobody here cancelled: the other side hung up
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_replica_that_is_gone_is_lost(error: BaseException) -> None:
    serve, _, _ = dispatcher(ACCEPTED, error)
    with pytest.raises(ReplicaLost):
        [batch async for batch in serve.stream("chat", CALL)]
    serve, _, _ = dispatcher(error)
    with pytest.raises(ReplicaLost):
        await serve.ping("chat")


@pytest.mark.parametrize(("said", "lost"), [([ACCEPTED, []], ReplicaLost), ([[]], ReplicaLost), ([], NotTaken)])
async def test_a_replica_that_falls_silent_is_lost_and_one_that_never_spoke_has_not_taken_the_call(
    said: list[Any], lost: type[ReplicaLost]
) -> None:
    handle = FakeHandle([*said, asyncio.Event()])
    serve = ServeDispatcher(lambda *_: handle, silence_s=0.1)  # type: ignore[arg-type]
    stream = serve.stream("chat", CALL)
    assert [await anext(stream) for batch in said if batch] == [batch for batch in said if batch]
    with pytest.raises(ReplicaLost, match=r"nothing was heard of it for 0\.1 seconds") as raised:
        await anext(stream)
    assert type(raised.value) is lost
    assert handle.response.cancelled


async def test_backpressure_is_overload_with_its_retry_after() -> None:
    serve, _, _ = dispatcher(BackPressureError(10, 10, retry_after_s=4.0))
    with pytest.raises(Overloaded) as overloaded:
        await anext(serve.stream("chat", CALL))
    assert overloaded.value.retry_after == 4.0


@pytest.mark.parametrize("error", [ValueError("a bug"), rpc_error(grpc.StatusCode.RESOURCE_EXHAUSTED)])
async def test_a_fault_is_not_mistaken_for_a_lost_replica(error: Exception) -> None:
    serve, _, _ = dispatcher(error)
    with pytest.raises(type(error)):
        await anext(serve.stream("chat", CALL))


async def test_reports_leave_failing_replicas_out() -> None:
    serve, _, _ = dispatcher(report(), ActorDiedError())
    assert list(await serve.reports("chat")) == [report()]


async def test_a_hung_replica_does_not_hide_the_reports_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.serve_dispatch.PATIENCE_S", 0.01)
    serve, _, _ = dispatcher(asyncio.Event(), report(), ActorDiedError(), report(replica="r2"))
    assert list(await serve.reports("chat")) == [report(), report(replica="r2")]


async def test_the_only_replica_may_take_as_long_as_the_board_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its silence for a while is no sign that there is none: an empty answer would say that."""
    monkeypatch.setattr("services.gateway.serve_dispatch.PATIENCE_S", 0.0)
    slow = asyncio.Event()
    serve, _, _ = dispatcher(slow, ActorDiedError())
    asking = asyncio.create_task(serve.reports("chat"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not asking.done()
    slow.set()
    assert list(await asking) == [report(replica="slow")]


async def test_giving_up_on_reports_leaves_no_question_behind() -> None:
    serve, _, _ = dispatcher(asyncio.Event())
    before = asyncio.all_tasks()
    asking = asyncio.create_task(serve.reports("chat"))
    for _ in range(10):
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    for _ in range(3):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_a_service_scaled_to_zero_reports_nothing() -> None:
    serve, _, _ = dispatcher(DeploymentUnavailableError(DeploymentID("Replica", "chat")))
    assert list(await serve.reports("chat")) == []


async def test_a_broadcast_that_fails_as_a_whole_is_a_lost_replica() -> None:
    """What is not known as such would escape the board, and leave its old figures standing."""
    serve, handle, _ = dispatcher(ActorDiedError())
    handle.response.fails_whole = True
    with pytest.raises(ReplicaLost):
        await serve.reports("chat")
