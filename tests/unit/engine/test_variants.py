"""Models of one sampler: one order and one admission, but groups, counters and ends of their own."""

from __future__ import annotations

import pytest

from services.engine.contract import FinishReason
from services.engine.errors import ModelBusy, UnknownModel
from tests.contract.fake import FakeParams, FakeSampler
from tests.unit.engine.harness import Harness, solo


def harness(sampler: FakeSampler | None = None) -> Harness:
    """An engine with a model m and its variants a and b. The sampler checks that it is asked about all its rows."""
    made = Harness(sampler)
    for name in "ab":
        made.engine.register(name, made.sampler, base="m")
    return made


def test_rows_of_variants_never_share_a_step_and_take_turns() -> None:
    engine = harness()
    rows = [FakeParams(seed=i, steps=3) for i in range(6)]
    requests = [engine.submit(row, model=model) for row, model in zip(rows, "mabmab", strict=True)]
    engine.step(3)
    assert [[params.seed for params in batch] for batch in engine.sampler.batches] == [[0, 3], [1, 4], [2, 5]]
    engine.finish()
    assert [engine.chunks(request) for request in requests] == [solo(row) for row in rows]
    engine.check_nothing_is_left()


def test_each_may_run_as_many_rows_as_a_step_takes() -> None:
    engine = harness(FakeSampler(max_batch_size=2))
    for model in "ma":
        for _ in range(3):
            engine.submit(FakeParams(), model=model)
    engine.step()
    assert len(engine.sampler.live) == 4
    stats = engine.engine.stats()
    assert [(stats[model].running_rows, stats[model].waiting_rows) for model in "mab"] == [(2, 1), (2, 1), (0, 0)]
    engine.finish()


def test_a_row_that_does_not_fit_yet_waits_for_another_models_rows_and_is_not_passed() -> None:
    engine = harness(FakeSampler(budget=10))
    first = engine.submit(FakeParams(steps=2, size=8), model="m")
    large = engine.submit(FakeParams(size=5), model="a")
    small = engine.submit(FakeParams(size=1), model="b")
    engine.step()
    assert engine.reason(large) is None, "it fits alone, so it has not failed"
    assert len(engine.sampler.live) == 1, "a smaller row has passed the one that waits"
    engine.finish()
    assert [engine.reason(request) for request in (first, large, small)] == [FinishReason.LENGTH] * 3


def test_tenants_share_by_weight_over_all_variants() -> None:
    engine = harness(FakeSampler(max_batch_size=1, budget=1))
    running = engine.submit(FakeParams(steps=1), model="b")
    engine.step()
    backlog = [engine.submit(FakeParams(seed=i, steps=1), model="m", tenant="alice") for i in range(3)]
    late = engine.submit(FakeParams(steps=1), model="a", tenant="bob")
    ended: list[int] = []
    while engine.engine.has_work:
        engine.step()
        ended += [request for request, _ in engine.finals if request not in ended]
    assert ended == [running, backlog[0], late, *backlog[1:]]


def test_counters_are_each_models_own() -> None:
    engine = harness()
    engine.submit(FakeParams(steps=2), model="m")
    engine.submit(FakeParams(steps=5), model="a")
    engine.finish()
    stats = engine.engine.stats()
    assert [stats[model].steps for model in "mab"] == [2, 5, 0]
    assert [stats[model].finished[FinishReason.LENGTH] for model in "mab"] == [1, 1, 0]


def test_a_variant_leaves_when_its_own_rows_have_and_a_base_after_its_variants() -> None:
    engine = harness()
    engine.submit(FakeParams(steps=4), model="m")
    engine.submit(FakeParams(steps=1), model="a")
    with pytest.raises(ModelBusy):
        engine.engine.unregister("a")
    engine.step(2)
    engine.engine.unregister("a")
    engine.finish()
    with pytest.raises(ModelBusy):
        engine.engine.unregister("m")
    engine.engine.unregister("b")
    engine.engine.unregister("m")
    assert engine.engine.models == frozenset()


def test_a_base_must_be_there_and_have_the_same_sampler() -> None:
    engine = Harness().engine
    with pytest.raises(UnknownModel):
        engine.register("a", FakeSampler(), base="gone")
    with pytest.raises(ValueError, match="another sampler than its base 'm'"):
        engine.register("a", FakeSampler(), base="m")
    assert engine.models == {"m"}
