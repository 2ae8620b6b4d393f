"""What the engine promises of admission, turns, deadlines, aborts and refusals, one promise a test."""

from __future__ import annotations

import pytest

from services.engine.contract import FinishReason
from services.engine.engine import Engine
from services.engine.errors import ModelBusy, QueueFull, RowFailed, UnknownModel
from tests.contract.fake import FakeParams, FakeSampler
from tests.unit.engine.harness import Harness, solo

LONG = FakeParams(seed=9, steps=50)


def test_a_request_streams_its_rows_in_order_and_ends_each_once() -> None:
    harness = Harness()
    rows = [FakeParams(seed=seed, steps=2 + seed, silent=seed) for seed in range(3)]
    request = harness.submit(*rows)
    harness.finish()
    for index, params in enumerate(rows):
        assert harness.chunks(request, index) == solo(params)
        assert len(solo(params)) == params.steps
        assert harness.reason(request, index) is FinishReason.LENGTH
        assert harness.finals[request, index].units == params.steps + params.silent
    harness.check_nothing_is_left()


def test_units_of_an_output_are_a_running_total() -> None:
    harness = Harness()
    request = harness.submit(FakeParams(steps=3, silent=1))
    harness.finish()
    assert [output.units for output in harness.outputs[request, 0]] == [2, 3, 4]


def test_a_row_joins_a_running_batch_at_the_next_boundary() -> None:
    harness = Harness()
    first = harness.submit(LONG)
    harness.step()
    second = harness.submit(FakeParams(seed=1, steps=1))
    harness.step()
    assert harness.reason(second) is FinishReason.LENGTH
    assert harness.reason(first) is None
    assert [len(batch) for batch in harness.sampler.batches] == [1, 2]


def test_a_place_is_filled_again_at_the_next_boundary() -> None:
    harness = Harness(FakeSampler(max_batch_size=2))
    for steps in (1, 50, 50):
        harness.submit(FakeParams(steps=steps))
    harness.step(2)
    assert [len(batch) for batch in harness.sampler.batches] == [2, 2]
    assert len(harness.sampler.live) == 2


def test_two_keys_take_turns_though_one_fills_the_queue() -> None:
    harness = Harness(FakeSampler(max_batch_size=2))
    for _ in range(20):
        harness.submit(FakeParams(key="a", steps=100))
    late = harness.submit(FakeParams(key="b", steps=5, seed=3))
    harness.step(10)
    assert harness.reason(late) is FinishReason.LENGTH
    assert [batch[0].key for batch in harness.sampler.batches] == ["a", "b"] * 5


def test_two_models_take_turns() -> None:
    harness = Harness({"m": FakeSampler(), "n": FakeSampler()})
    harness.submit(LONG)
    harness.submit(LONG, model="n")
    harness.step(10)
    assert len(harness.samplers["m"].batches) == len(harness.samplers["n"].batches) == 5


def test_a_row_that_does_not_fit_yet_holds_back_its_model_and_no_other() -> None:
    harness = Harness({"m": FakeSampler(budget=10), "n": FakeSampler()})
    harness.submit(FakeParams(size=6, steps=4))
    large = harness.submit(FakeParams(size=6, steps=1))
    small = harness.submit(FakeParams(size=1, steps=1), FakeParams(size=1, steps=1, key="other"))
    other = harness.submit(FakeParams(steps=1), model="n")
    harness.step(3)
    assert harness.reason(other) is FinishReason.LENGTH
    assert harness.reason(large) is harness.reason(small) is harness.reason(small, 1) is None
    harness.finish()
    assert list(harness.finals).index((large, 0)) < list(harness.finals).index((small, 0))


def test_a_row_that_does_not_fit_even_alone_fails_instead_of_waiting_for_ever() -> None:
    harness = Harness(FakeSampler(budget=10))
    huge, small = harness.submit(FakeParams(size=11)), harness.submit(FakeParams(size=1))
    harness.finish()
    assert isinstance(harness.finals[huge, 0].error, RowFailed)
    assert harness.reason(small) is FinishReason.LENGTH
    harness.check_nothing_is_left()


def test_waiting_rows_start_by_priority_then_fair_share_then_arrival() -> None:
    harness = Harness(FakeSampler(max_batch_size=1))
    running = harness.submit(FakeParams(steps=1))
    harness.step()
    hog = [harness.submit(FakeParams(steps=1), tenant="hog") for _ in range(3)]
    guest = harness.submit(FakeParams(steps=1), tenant="guest")
    urgent = harness.submit(FakeParams(steps=1), tenant="hog", priority=0)
    harness.finish()
    assert [request for request, _ in harness.finals] == [running, urgent, hog[0], guest, hog[1], hog[2]]


def test_a_tenant_that_comes_late_shares_with_a_backlog_instead_of_passing_it() -> None:
    harness = Harness(FakeSampler(max_batch_size=1))
    hog = [harness.submit(FakeParams(steps=1), tenant="hog") for _ in range(8)]
    harness.step(5)
    late = [harness.submit(FakeParams(steps=1), tenant="late") for _ in range(3)]
    harness.finish()
    assert [request for request, _ in harness.finals][5:] == [hog[5], late[0], hog[6], late[1], hog[7], late[2]]


def test_an_aborted_request_is_not_charged_to_its_tenant() -> None:
    harness = Harness(FakeSampler(max_batch_size=1))
    first = harness.submit(FakeParams(steps=1), tenant="a")
    harness.engine.abort(harness.submit(FakeParams(cost=100), FakeParams(cost=200), tenant="a"))
    second = harness.submit(FakeParams(steps=1), tenant="a")
    rival = harness.submit(FakeParams(steps=1, cost=10), tenant="b")
    harness.finish()
    assert [request for request, _ in harness.finals if request in (first, second, rival)] == [first, second, rival]


def test_an_abort_frees_waiting_and_running_rows_at_once() -> None:
    harness = Harness(FakeSampler(max_batch_size=1))
    request = harness.submit(LONG, LONG)
    harness.step()
    harness.engine.abort(request)
    assert harness.sampler.live == []
    harness.step()
    assert harness.reason(request, 0) is harness.reason(request, 1) is FinishReason.ABORT
    harness.check_nothing_is_left()


def test_an_abort_after_the_end_or_of_nothing_changes_nothing() -> None:
    harness = Harness()
    request = harness.submit(FakeParams(steps=1))
    harness.finish()
    harness.engine.abort(request)
    harness.engine.abort(12345)
    assert harness.engine.step() == []


def test_a_deadline_ends_waiting_and_running_rows_at_the_boundary() -> None:
    harness = Harness(FakeSampler(max_batch_size=1))
    request = harness.submit(LONG, LONG, deadline=1.0)
    patient = harness.submit(FakeParams(steps=1), deadline=2.0)
    harness.step()
    harness.clock.now = 1.0
    harness.step()
    assert harness.reason(request, 0) is harness.reason(request, 1) is FinishReason.DEADLINE
    assert harness.reason(patient) is FinishReason.LENGTH
    harness.check_nothing_is_left()


def test_a_row_past_its_deadline_never_starts() -> None:
    harness = Harness()
    harness.clock.now = 5.0
    request = harness.submit(LONG, deadline=4.0)
    harness.finish()
    assert harness.reason(request) is FinishReason.DEADLINE
    assert harness.sampler.started == 0


def test_a_full_queue_refuses_the_whole_request_with_its_figures() -> None:
    harness = Harness(max_waiting_cost=10)
    harness.submit(FakeParams(cost=8))
    with pytest.raises(QueueFull) as refusal:
        harness.submit(FakeParams(cost=1), FakeParams(cost=1.5))
    assert (refusal.value.limit, refusal.value.waiting, refusal.value.got) == (10, 8, 2.5)
    assert harness.engine.stats()["m"].waiting_rows == 1
    harness.submit(FakeParams(cost=2))


def test_a_request_over_the_bound_is_refused_by_an_empty_queue() -> None:
    with pytest.raises(QueueFull):
        Harness(max_waiting_cost=10).submit(FakeParams(cost=10.5))


def test_a_row_that_starts_makes_room_in_the_queue() -> None:
    harness = Harness(max_waiting_cost=10)
    harness.submit(FakeParams(cost=10))
    harness.step()
    harness.submit(FakeParams(cost=10))


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        ([], {}),
        ([FakeParams(), FakeParams(cost=-1.0)], {}),
        ([FakeParams(cost=float("nan"))], {}),
        ([FakeParams()], {"weight": 0.0}),
        ([FakeParams()], {"weight": float("inf")}),
        ([FakeParams()], {"deadline": float("nan")}),
        ([FakeParams(), FakeParams(key=[])], {}),
    ],
)
def test_a_malformed_request_is_refused_and_leaves_nothing(rows: list[FakeParams], options: dict[str, float]) -> None:
    harness = Harness()
    with pytest.raises((ValueError, TypeError)):
        harness.submit(*rows, **options)
    harness.check_nothing_is_left()


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(UnknownModel, match="nobody"):
        Harness().submit(FakeParams(), model="nobody")


def test_a_model_can_join_and_leave_while_another_runs() -> None:
    harness = Harness()
    harness.submit(LONG)
    harness.step()
    harness.engine.register("n", FakeSampler())
    request = harness.submit(FakeParams(steps=1), model="n")
    with pytest.raises(ModelBusy):
        harness.engine.unregister("n")
    harness.step(3)
    assert harness.reason(request) is FinishReason.LENGTH
    harness.engine.unregister("n")
    assert harness.engine.models == {"m"}
    with pytest.raises(UnknownModel):
        harness.engine.unregister("n")


def test_counters_outlive_a_model_that_leaves_and_comes_back() -> None:
    harness = Harness()
    harness.submit(FakeParams(steps=2))
    harness.finish()
    harness.engine.unregister("m")
    assert harness.engine.stats()["m"].steps == 2
    harness.engine.register("m", FakeSampler())
    harness.submit(FakeParams(steps=1))
    harness.finish()
    assert harness.engine.stats()["m"].steps == 3


def test_a_model_id_is_given_once_and_a_sampler_must_take_rows() -> None:
    engine = Engine({"m": FakeSampler()}, max_waiting_cost=1)
    with pytest.raises(ValueError, match="registered already"):
        engine.register("m", FakeSampler())
    with pytest.raises(ValueError, match="max_batch_size"):
        engine.register("n", FakeSampler(max_batch_size=0))
