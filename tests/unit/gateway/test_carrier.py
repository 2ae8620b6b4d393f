"""Holding, deadlines, the second try after a lost replica, and what stands in for a target that fails."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace

import pytest

from services.gateway.carrier import Carrier, Errand, Target
from services.gateway.dispatcher import NotTaken, ReplicaLost
from services.gateway.logs import make_log
from services.gateway.problems import CallFailed
from shared.calls import Call
from shared.errors import (
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    ModelLoading,
    ModelNotFound,
    Overloaded,
    RateLimited,
    ServiceError,
)
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

    errand = Errand((Target("chat", CALL, lambda: is_ready),), deadline_s, hold_s)
    try:
        await Carrier(dispatcher, make_log("INFO", io.StringIO()), grace_s=0.001).carry(errand, sink)
    finally:
        assert dispatcher.open == 0
    return dispatcher, seen


async def never(call: Call) -> AsyncGenerator[list[RowEvent], None]:
    await asyncio.Event().wait()
    yield []


@pytest.mark.parametrize("script", [play(ACCEPTED, text("a"), STOPPED), play(ReplicaLost("died")), never])
async def test_whatever_becomes_of_an_errand_its_end_is_told_once(script: Script) -> None:
    ends: list[None] = []

    async def sink(_: Sequence[RowEvent]) -> None:
        assert not ends

    target = Target("chat", CALL, lambda: True)
    errand = Errand((target,), 60, 60, ended=lambda: ends.append(None))
    carrying = asyncio.ensure_future(
        Carrier(FakeDispatcher(script), make_log("INFO", io.StringIO())).carry(errand, sink)
    )
    if script is never:
        await asyncio.sleep(0)
        carrying.cancel()
    await asyncio.gather(carrying, return_exceptions=True)
    assert len(ends) == 1


async def test_a_replica_lost_before_accepting_is_tried_around_once() -> None:
    dispatcher, seen = await carry(play(ReplicaLost("died")), play(ACCEPTED, text("a"), STOPPED))
    assert len(dispatcher.calls) == 2
    assert dispatcher.calls[1][1].deadline_s is not None
    assert dispatcher.calls[1][1].deadline_s < 60
    assert [type(event) for event in seen] == [Accepted, TextDelta, Finished]


async def test_a_replica_lost_twice_is_overload() -> None:
    with pytest.raises(Overloaded, match="lost"):
        await carry(play(ReplicaLost("died")), play(ReplicaLost("died")), play(ACCEPTED, STOPPED))


async def test_a_call_that_no_replica_takes_is_sent_again_for_as_long_as_it_is_held() -> None:
    untaken = play(NotTaken("nothing was heard"))
    dispatcher, seen = await carry(untaken, untaken, untaken, play(ACCEPTED, text("a"), STOPPED))
    assert len(dispatcher.calls) == 4
    assert [type(event) for event in seen] == [Accepted, TextDelta, Finished]


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

    errand = Errand((Target("chat", CALL, lambda: True),), 60, 60)
    dispatcher = FakeDispatcher(play(ACCEPTED, STOPPED))
    with pytest.raises(ConnectionError):
        await Carrier(dispatcher, make_log("INFO", io.StringIO())).carry(errand, sink)
    assert dispatcher.open == 0


@dataclass
class Journey:
    """An errand with the targets `models`, each of which plays the script that `plays` has for it."""

    plays: dict[str, Script]
    models: tuple[str, ...] = ("a", "b")
    ready: frozenset[str] = frozenset({"a", "b"})
    restarts: bool = False
    deadline_s: float = 60
    renewals: list[tuple[str, ...]] = field(default_factory=list)
    began: list[str] = field(default_factory=list)
    seen: list[Event] = field(default_factory=list)
    dispatcher: FakeDispatcher = field(init=False)

    async def go(self) -> None:
        self.dispatcher = FakeDispatcher(lambda call: self.plays[call.model](call))
        carrier = Carrier(
            self.dispatcher, make_log("INFO", io.StringIO()), grace_s=0.001, fallback_after_s=0.01, skew_s=0.0
        )
        try:
            await carrier.carry(self.errand(self.models), self.sink, began=self.note, restarts=self.restarts)
        finally:
            assert self.dispatcher.open == 0

    def errand(self, models: tuple[str, ...]) -> Errand:
        targets = (
            Target(model, replace(CALL, model=model), lambda model=model: model in self.ready) for model in models
        )
        return Errand(tuple(targets), self.deadline_s, 60, self.renewed)

    def renewed(self) -> Errand | None:
        return self.errand(self.renewals.pop(0)) if self.renewals else None

    async def sink(self, batch: Sequence[RowEvent]) -> None:
        self.seen.extend(event for _, event in batch)

    def note(self, target: Target) -> None:
        self.began.append(target.call.model)
        self.seen.clear()

    @property
    def said(self) -> str:
        return "".join(event.text for event in self.seen if isinstance(event, TextDelta))


ANSWER = play(ACCEPTED, text("b"), STOPPED)


def failing(error: ServiceError) -> Script:
    return play([RowEvent(0, Failed.of(error))])


@pytest.mark.parametrize(
    "failure",
    [
        failing(Overloaded("full")),
        failing(ModelLoading("soon")),
        failing(InternalError()),
        play(Overloaded("no room at the router")),
        play(ReplicaLost("died")),
        play(ACCEPTED, ReplicaLost("died before it said a word")),
        play(ACCEPTED, [RowEvent(0, Failed.of(InternalError()))]),
    ],
    ids=["overload", "loading", "fault", "backpressure", "lost", "lost when accepted", "failed when accepted"],
)
async def test_a_target_that_fails_before_it_answers_is_stood_in_for(failure: Script) -> None:
    journey = Journey({"a": failure, "b": ANSWER})
    await journey.go()
    assert (journey.began, journey.said) == (["a", "b"], "b")
    assert not any(isinstance(event, Failed) for event in journey.seen)


@pytest.mark.parametrize(
    "failure", [InvalidRequest("no"), RateLimited("slow down", retry_after=1.0)], ids=["400", "429"]
)
async def test_what_is_the_clients_fault_is_told_by_the_first(failure: ServiceError) -> None:
    journey = Journey({"a": failing(failure), "b": ANSWER})
    with pytest.raises(CallFailed, match=str(failure)):
        await journey.go()
    assert journey.began == ["a"]


@pytest.mark.parametrize(
    "failure",
    [
        play(ACCEPTED, text("a"), ReplicaLost("died")),
        play(ACCEPTED, text("a"), [RowEvent(0, Failed.of(InternalError()))]),
    ],
    ids=["lost", "failed"],
)
async def test_after_the_first_piece_of_an_answer_nobody_stands_in(failure: Script) -> None:
    journey = Journey({"a": failure, "b": ANSWER})
    with pytest.raises((Overloaded, CallFailed)):
        await journey.go()
    assert (journey.began, journey.said) == (["a"], "a")


async def test_an_answer_that_nobody_has_seen_is_begun_anew_by_another() -> None:
    journey = Journey({"a": play(ACCEPTED, text("a"), ReplicaLost("died")), "b": ANSWER}, restarts=True)
    await journey.go()
    assert (journey.began, journey.said) == (["a", "b"], "b")


async def test_a_target_that_takes_nothing_is_left_when_another_is_ready() -> None:
    journey = Journey({"a": never, "b": ANSWER})
    await journey.go()
    assert journey.began == ["a", "b"]


async def test_a_target_that_takes_nothing_is_waited_for_when_no_other_is_ready_either() -> None:
    opened = asyncio.Event()
    journey = Journey({"a": play(opened, ACCEPTED, text("a"), STOPPED), "b": ANSWER}, ready=frozenset())
    going = asyncio.ensure_future(journey.go())
    asyncio.get_running_loop().call_later(0.05, opened.set)  # later than another that is ready would be asked
    await going
    assert (journey.began, journey.said) == (["a"], "a")


async def test_of_targets_that_all_fail_the_first_is_heard() -> None:
    journey = Journey({"a": failing(ModelLoading("a loads")), "b": failing(InvalidRequest("b takes less"))})
    with pytest.raises(CallFailed, match="a loads"):
        await journey.go()
    assert journey.began == ["a", "b"]


async def test_all_targets_share_one_deadline() -> None:
    journey = Journey({"a": never, "b": never}, deadline_s=0.02)
    with pytest.raises(ServiceError):
        await journey.go()
    times = [call.deadline_s for _, call in journey.dispatcher.calls]
    assert all(left is not None and left <= 0.02 for left in times)


async def test_a_call_that_finds_nobody_is_carried_by_the_configuration_that_came_meanwhile() -> None:
    journey = Journey({"a": play(ReplicaLost("gone")), "b": ANSWER}, models=("a",), renewals=[("b",)])
    await journey.go()
    assert journey.said == "b"


async def test_a_replica_that_has_not_heard_of_its_model_yet_is_asked_again() -> None:
    scripts = [failing(ModelNotFound("a")), play(ACCEPTED, text("a"), STOPPED)]
    journey = Journey({}, models=("a",))
    carrier = Carrier(FakeDispatcher(scripts=scripts), make_log("INFO", io.StringIO()))
    await carrier.carry(journey.errand(("a",)), journey.sink, began=journey.note)
    assert (journey.began, journey.said) == (["a", "a"], "a")


async def test_a_model_that_no_replica_ever_hears_of_is_not_found() -> None:
    journey = Journey({"a": failing(ModelNotFound("a"))}, models=("a",))
    with pytest.raises(CallFailed, match="does not exist"):
        await journey.go()


async def test_a_configuration_without_the_model_says_so_to_calls_on_their_way() -> None:
    journey = Journey({"a": failing(ModelNotFound("a"))}, models=("a",))

    def renewed() -> Errand | None:
        raise ModelNotFound("a")

    errand = replace(journey.errand(("a",)), renewed=renewed)
    carrier = Carrier(FakeDispatcher(journey.plays["a"]), make_log("INFO", io.StringIO()))
    with pytest.raises(ModelNotFound):
        await carrier.carry(errand, journey.sink)


async def test_an_answer_that_has_begun_is_never_carried_anew() -> None:
    journey = Journey(
        {"a": play(ACCEPTED, text("a"), ReplicaLost("died")), "b": ANSWER}, models=("a",), renewals=[("b",)]
    )
    with pytest.raises(Overloaded):
        await journey.go()
    assert journey.began == ["a"]
