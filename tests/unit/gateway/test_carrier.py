"""Holding, deadlines, and the second try after a lost replica."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, Sequence

import pytest

from services.gateway.carrier import Carrier, Errand
from services.gateway.dispatcher import ReplicaLost
from services.gateway.logs import make_log
from services.gateway.problems import CallFailed
from shared.calls import Call
from shared.errors import DeadlineExceeded, InvalidRequest, ModelLoading, Overloaded
from shared.events import Accepted, Event, Failed, Finished, RowEvent, TextDelta
from shared.schemas.text import DetokenizeRequest
from tests.unit.gateway.fakes import ACCEPTED, STOPPED, FakeDispatcher, Script, play, text

CALL = Call(request_id="r", model="m", task="detokenize", body=DetokenizeRequest(model="m", tokens=[]), flush_s=0.04)


async def carry(
    *scripts: Script, deadline_s: float = 60, hold_s: float | None = 60, is_ready: bool = False
) -> tuple[FakeDispatcher, list[Event]]:
    dispatcher = FakeDispatcher(scripts=list(scripts))
    seen: list[Event] = []

    async def sink(batch: Sequence[RowEvent]) -> None:
        seen.extend(event for _, event in batch)

    errand = Errand("chat", CALL, deadline_s, hold_s, lambda: is_ready)
    try:
        await Carrier(dispatcher, make_log("INFO", io.StringIO()), grace_s=0.001).carry(errand, sink)
    finally:
        assert dispatcher.open == 0
    return dispatcher, seen


async def never(call: Call) -> AsyncGenerator[list[RowEvent], None]:
    await asyncio.Event().wait()
    yield []


async def test_a_replica_lost_before_accepting_is_tried_around_once() -> None:
    dispatcher, seen = await carry(play(ReplicaLost("died")), play(ACCEPTED, text("a"), STOPPED))
    assert len(dispatcher.calls) == 2
    assert dispatcher.calls[1][1].deadline_s is not None
    assert dispatcher.calls[1][1].deadline_s < 60
    assert [type(event) for event in seen] == [Accepted, TextDelta, Finished]


async def test_a_replica_lost_twice_is_overload() -> None:
    with pytest.raises(Overloaded, match="lost"):
        await carry(play(ReplicaLost("died")), play(ReplicaLost("died")), play(ACCEPTED, STOPPED))


async def test_a_replica_lost_after_accepting_is_not_tried_again() -> None:
    with pytest.raises(Overloaded, match="lost"):
        await carry(play(ACCEPTED, text("a"), ReplicaLost("died")), play(ACCEPTED, STOPPED))


async def test_a_stream_that_ends_before_its_rows_is_a_lost_replica() -> None:
    with pytest.raises(Overloaded):
        await carry(play([RowEvent(0, Accepted(2)), *STOPPED]))


async def test_a_call_not_accepted_in_time_is_model_loading() -> None:
    with pytest.raises(ModelLoading, match=r"held for 0.01 seconds") as late:
        await carry(never, hold_s=0.01)
    assert late.value.retry_after == 5.0


async def test_a_deadline_shorter_than_the_hold_ends_the_hold() -> None:
    with pytest.raises(ModelLoading, match=r"held for 0.01 seconds"):
        await carry(never, deadline_s=0.01)


async def test_a_ready_model_that_takes_nothing_is_overloaded() -> None:
    with pytest.raises(Overloaded) as late:
        await carry(never, hold_s=0.01, is_ready=True)
    assert late.value.code == "server_is_overloaded"


async def test_a_ready_model_that_misses_the_deadline_is_504() -> None:
    with pytest.raises(DeadlineExceeded):
        await carry(never, deadline_s=0.01, is_ready=True)


async def test_an_accepted_call_is_not_held_but_still_has_a_deadline() -> None:
    with pytest.raises(DeadlineExceeded, match=r"did not finish within its deadline of 0.02 seconds"):
        await carry(play(ACCEPTED, asyncio.Event()), hold_s=0.001, deadline_s=0.02)


async def test_a_call_in_one_message_is_bound_by_its_deadline_alone() -> None:
    with pytest.raises(DeadlineExceeded):
        await carry(never, hold_s=None, deadline_s=0.01)


async def test_a_failure_is_raised_after_what_came_before_it_was_given() -> None:
    failure = Failed.of(InvalidRequest("no", param="prompt"))
    with pytest.raises(CallFailed) as failed:
        await carry(play([*ACCEPTED, *text("a"), RowEvent(0, failure)], STOPPED))
    assert failed.value.failure == failure


async def test_a_deadline_of_the_sink_itself_is_not_mistaken_for_the_calls() -> None:
    async def sink(_: Sequence[RowEvent]) -> None:
        raise ConnectionError

    errand = Errand("chat", CALL, 60, 60, lambda: True)
    dispatcher = FakeDispatcher(play(ACCEPTED, STOPPED))
    with pytest.raises(ConnectionError):
        await Carrier(dispatcher, make_log("INFO", io.StringIO())).carry(errand, sink)
    assert dispatcher.open == 0
