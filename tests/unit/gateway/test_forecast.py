"""Predicting waits from reports: what counts as ahead, when nothing is known, and how a refusal looks on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from services.gateway.board import ReportBoard
from services.gateway.forecast import Forecast, merged, together
from services.gateway.logs import make_log
from services.gateway.state import Tempo
from shared.calls import Call, Priority
from shared.errors import Overloaded
from shared.prediction import UNSEEN, Load, Pace, Prediction, Share, Waiting, cost_ahead, predict
from shared.reports import ReplicaReport
from shared.schemas.text import DetokenizeRequest
from tests.unit.gateway.fakes import MODEL, Clock, FakeDispatcher, chat, make_gateway, report

PACE = Pace(units_per_second=100.0, seconds_per_step=0.02, used=1.0, exact=1.0)
CALL = Call("req", MODEL, "detokenize", DetokenizeRequest(model=MODEL, tokens=[]), tenant="me", deadline_s=10.0)
ME = Share(1, "me", 1.0)


def waiting(tenant: str, cost: float, *, priority: int = 1, weight: float = 1.0) -> Waiting:
    return Waiting(Share(priority, tenant, weight), cost)


def loaded(*queue: Waiting, pace: Pace = PACE, max_wait_s: float = 60.0, replica: str = "r1") -> ReplicaReport:
    base: ReplicaReport = report(replica=replica)
    entry = replace(base.models[0], waiting=queue, pace=pace)
    return replace(base, models=(entry,), max_wait_s=max_wait_s)


class Rig:
    """A forecast on a board that knows what the test says."""

    def __init__(self, *reports: ReplicaReport) -> None:
        self.clock = Clock()
        self.dispatcher = FakeDispatcher(known={"chat": reports})
        self.board = ReportBoard(self.dispatcher, make_log("INFO"), max_age_s=0.5, clock=self.clock)
        self.forecast = Forecast(self.board, clock=self.clock)

    async def learn(self, *reports: ReplicaReport) -> None:
        if reports:
            self.dispatcher.known["chat"] = reports
        await self.board.fresh(["chat"])

    def refuses(self, cost: float = 100.0, call: Call = CALL) -> bool:
        try:
            self.forecast.check("chat", call, cost)
        except Overloaded:
            return True
        return False


async def rig_of(*reports: ReplicaReport) -> Rig:
    rig = Rig(*reports)
    await rig.learn()
    return rig


@pytest.mark.parametrize(
    ("queue", "ahead"),
    [
        ([], 0),
        ([waiting("me", 30)], 30),
        ([waiting("other", 5)], 5),
        ([waiting("other", 500)], 10),  # no more than falls due in the same rounds
        ([waiting("other", 500, weight=3.0)], 30),
        ([waiting("me", 30), waiting("other", 500)], 70),
        ([waiting("x", 500), waiting("y", 500), waiting("z", 4)], 24),
        ([waiting("other", 500, priority=0)], 500),
        ([waiting("other", 500, priority=2), waiting("me", 500, priority=2)], 0),
        ([waiting("me", 7, priority=0), waiting("me", 30)], 37),
    ],
)
def test_what_is_served_before_a_request_of_ten_units(queue: Sequence[Waiting], ahead: float) -> None:
    assert cost_ahead(queue, ME, 10.0) == ahead


def test_an_idle_model_and_an_unknown_rate_predict_nothing() -> None:
    assert predict(Load((), 0), PACE, ME, cost=1e9, steps=1e9) is None
    assert predict(Load([waiting("me", 1e9)], 9), UNSEEN, ME, cost=1e9, steps=1e9) is None


def test_wait_and_service_are_the_cost_that_is_used_at_the_learned_pace() -> None:
    pace = replace(PACE, used=0.5)
    found = predict(Load([waiting("me", 400)], 9), pace, ME, cost=100, steps=50)
    assert found == Prediction(wait_s=2.0, service_s=1.0)


def test_a_request_waits_for_a_place_even_where_nothing_goes_before_it() -> None:
    batch = waiting("me", 400, priority=2)
    assert predict(Load([batch], 8, 4000.0), PACE, ME, cost=1, steps=0) == Prediction(5.0, 0.0)
    assert predict(Load([], 8, 4000.0), PACE, ME, cost=1, steps=0) == Prediction(0.0, 0.0)


def test_as_many_rows_as_there_are_free_places_start_at_once_and_the_next_waits_for_what_is_left() -> None:
    burst = replace(waiting("me", 400), rows=4)
    assert predict(Load([burst], 8, 800.0, 5), PACE, ME, cost=1, steps=0) == Prediction(0.0, 0.0)
    assert predict(Load([burst], 8, 800.0, 4), PACE, ME, cost=1, steps=0) == Prediction(1.0, 0.0)
    assert predict(Load([burst], 8, 800.0, 1), PACE, ME, cost=1, steps=0) == Prediction(4.0, 0.0)


def test_a_refusal_names_both_figures_and_when_the_excess_will_be_gone() -> None:
    with pytest.raises(Overloaded, match=r"up to 12.5 seconds, 10 of them waiting; .* deadline is in 5") as late:
        Prediction(8.0, 2.0).check(deadline_s=5.0, max_wait_s=60)
    assert late.value.retry_after == 7.5
    with pytest.raises(Overloaded, match="wait 80 seconds; 60 are allowed") as long:
        Prediction(80.0, 2.0).check(deadline_s=None, max_wait_s=60)
    assert long.value.retry_after == 20.0
    with pytest.raises(Overloaded) as never:
        Prediction(1.0, 200.0).check(deadline_s=5.0, max_wait_s=60)
    assert never.value.retry_after == 1.0, "a shorter queue would not help"


async def test_a_request_that_would_be_late_is_refused_and_a_patient_one_is_not() -> None:
    rig = await rig_of(loaded(waiting("me", 1000)))
    assert rig.refuses()
    assert not rig.refuses(call=replace(CALL, deadline_s=60.0))


async def test_another_tenants_flood_and_a_batch_refuse_nobody_else() -> None:
    rig = await rig_of(loaded(waiting("flood", 1e6), waiting("me", 1e6, priority=int(Priority.BATCH))))
    assert not rig.refuses()
    assert rig.refuses(call=replace(CALL, tenant="flood"))
    assert rig.refuses(call=replace(CALL, priority=Priority.BATCH))


async def test_replicas_share_the_queue_between_them() -> None:
    queue = waiting("me", 700)
    rig = await rig_of(loaded(queue))
    alone = rig.refuses(call=replace(CALL, deadline_s=9.0))
    await rig.learn(loaded(queue), loaded(pace=UNSEEN, replica="r2"))
    both = rig.refuses(call=replace(CALL, deadline_s=9.0))
    assert (alone, both) == (True, False)


async def test_what_went_there_since_the_report_was_asked_for_counts_and_then_no_more() -> None:
    rig = await rig_of(loaded())
    assert not rig.refuses()
    for _ in range(10):
        rig.forecast.sent("chat", CALL, 100.0)
    assert rig.refuses()
    rig.clock.seconds += 0.1
    await rig.learn()  # asked for after they were sent: whatever still waits is in it
    assert not rig.refuses()


async def test_what_has_ended_waits_no_more_even_before_the_next_report() -> None:
    rig = await rig_of(loaded())
    ends = [rig.forecast.sent("chat", CALL, 100.0) for _ in range(10)]
    assert rig.refuses()
    for end in (*ends[:5], *ends[:5]):  # the second time does nothing
        end()
    assert rig.refuses(cost=501), "the other five still wait"
    for end in ends[5:]:
        end()
    assert not rig.refuses(cost=999)
    rig.clock.seconds += 60
    rig.forecast.sent("chat", CALL, 700.0)  # forgets the ten, which take nothing away again
    await rig.learn(loaded())
    rig.forecast.sent("chat", CALL, 700.0)
    assert rig.refuses(cost=200)


async def test_bounds_are_corrected_by_what_replicas_learned_of_them() -> None:
    rig = await rig_of(loaded(waiting("me", 100), pace=replace(PACE, exact=0.1)))
    assert not rig.refuses(cost=1000)
    await rig.learn(loaded(waiting("me", 100)))
    assert rig.refuses(cost=1000)


async def test_a_request_of_many_rows_costs_all_of_them_and_takes_as_long_as_one() -> None:
    """The bound is of all rows; one of them runs while the others do."""
    rig = await rig_of(loaded(waiting("me", 100), pace=replace(PACE, exact=1.0, exact_steps=0.1)))
    assert not rig.refuses(cost=1000)
    rig.forecast.sent("chat", CALL, 1000.0)
    assert rig.refuses(cost=1000), "what it was sent waits in full"


async def test_free_places_are_those_of_all_replicas_and_what_was_sent_takes_them() -> None:
    free = [replace(each, free_rows=2) for replica in ("r1", "r2") for each in loaded(replica=replica).models]
    rig = await rig_of(*(replace(loaded(replica=f"r{i}"), models=(each,)) for i, each in enumerate(free)))
    for _ in range(4):
        assert not rig.refuses(cost=5000, call=replace(CALL, deadline_s=130.0))
        rig.forecast.sent("chat", CALL, 5000.0)
    assert rig.refuses(cost=5000, call=replace(CALL, deadline_s=130.0))


async def test_stale_knowledge_refuses_nothing_and_is_asked_for_again() -> None:
    rig = await rig_of(loaded(waiting("me", 1e6)))
    assert rig.refuses()
    asked = len(rig.dispatcher.asked)
    rig.clock.seconds += 1.5
    assert not rig.refuses()
    await asyncio.sleep(0)
    assert len(rig.dispatcher.asked) == asked + 1
    await rig.board.close()


async def test_an_unknown_service_refuses_nothing() -> None:
    rig = Rig()
    assert not rig.refuses()
    await rig.board.close()


async def test_a_long_wait_is_refused_whatever_the_deadline() -> None:
    rig = await rig_of(loaded(waiting("me", 1000), max_wait_s=5.0))
    assert rig.refuses(call=replace(CALL, deadline_s=600.0))
    assert not rig.refuses(call=replace(CALL, deadline_s=600.0, tenant="other"))


def test_what_waits_at_several_replicas_adds_up() -> None:
    mine, other = waiting("me", 5), waiting("other", 1)
    assert merged([mine, other, replace(mine, cost=2.0, rows=3)]) == [replace(mine, cost=7.0, rows=4), other]


def test_a_replica_without_a_queue_so_far_is_taken_to_be_as_fast_as_the_others() -> None:
    assert together([PACE, UNSEEN]).units_per_second == 200.0
    assert together([UNSEEN, UNSEEN]) == UNSEEN


@pytest.mark.parametrize("retries", [0, 1])
async def test_an_early_refusal_on_the_wire(retries: int) -> None:
    """503 with the four keys and a jittered Retry-After; a client that has tried before is told to stop."""
    clock = Clock()
    dispatcher = FakeDispatcher(known={"chat": [loaded(waiting("default", 2000))]})
    gateway = make_gateway(dispatcher, tempo=Tempo(clock=clock))
    await gateway.state.board.fresh(["chat"])
    seen: set[int] = set()
    async with gateway.client() as client:
        for _ in range(20):
            headers = {"x-castalia-deadline-ms": "10000", "x-stainless-retry-count": str(retries)}
            answer = await client.post("/v1/chat/completions", json=chat(max_tokens=5), headers=headers)
            assert answer.status_code == 503
            error: dict[str, Any] = answer.json()["error"]
            assert (error["type"], error["code"]) == ("service_unavailable_error", "server_is_overloaded")
            assert answer.headers.get("x-should-retry") == ("false" if retries else None)
            seen.add(int(answer.headers["retry-after"]))
    assert min(seen) >= 1
    assert max(seen) <= 30
    assert len(seen) > 1, "clients come back spread out"
    assert dispatcher.calls == [], "no replica was troubled"


async def test_the_metrics_say_who_waits_for_what_and_how_fast_it_goes() -> None:
    dispatcher = FakeDispatcher(known={"chat": [loaded(waiting("acme", 7.5), pace=replace(PACE, used=None))]})
    gateway = make_gateway(dispatcher)
    async with gateway.client() as client:
        text = (await client.get("/metrics")).text
    labels = 'family="transformer",model="tiny",replica="r1",service="chat"'
    assert f"castalia_units_per_second{{{labels}}} 100.0" in text
    assert f"castalia_seconds_per_step{{{labels}}} 0.02" in text
    assert f"castalia_predicted_wait_seconds{{{labels}}} 0.075" in text
    assert "castalia_used_cost_ratio{" not in text, "what is not known yet has no sample"
    assert (
        'castalia_tenant_waiting_cost{family="transformer",model="tiny",priority="default",replica="r1",service="chat",'
        'tenant="acme"} 7.5' in text
    )
