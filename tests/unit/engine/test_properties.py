"""Whatever clients do, in whatever order: no row starves, leaks, mixes with another, or ends other than once."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.engine.contract import FinishReason
from services.engine.errors import QueueFull
from tests.contract.fake import FakeParams, FakeSampler
from tests.unit.engine.harness import Harness, solo

BUDGET = 8
MODELS = ("m", "n")

healthy_rows = st.builds(
    FakeParams,
    seed=st.integers(0, 5),
    steps=st.integers(1, 4),
    silent=st.integers(0, 2),
    previews=st.booleans(),
    key=st.sampled_from("ab"),
    size=st.integers(1, BUDGET),
    cost=st.floats(0.0, 10.0),
)
any_rows = st.builds(
    replace,
    healthy_rows,
    fault=st.sampled_from([None, None, None, "raise", "not_finite", "start"]),
    fault_at=st.integers(0, 3),
)


def expected_reasons(params: FakeParams) -> set[FinishReason]:
    """How the row ends if nobody interferes."""
    hit = params.fault == "start" or (params.fault is not None and params.fault_at < params.silent + params.steps)
    return {FinishReason.ERROR} if hit else {FinishReason.LENGTH}


class EngineMachine(RuleBasedStateMachine):
    """Two models under random clients. The samplers check capacity, keys and releases at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.harness = Harness({model: FakeSampler(max_batch_size=2, budget=BUDGET) for model in MODELS})
        self.rows: dict[tuple[int, int], FakeParams] = {}
        self.disturbed: set[int] = set()  # requests with a deadline or an abort

    @rule(
        rows=st.lists(any_rows, min_size=1, max_size=4),
        model=st.sampled_from(MODELS),
        tenant=st.sampled_from("xyz"),
        weight=st.sampled_from([0.5, 1.0, 3.0]),
        priority=st.integers(0, 2),
        patience=st.none() | st.integers(0, 5),
    )
    def submit(
        self, rows: list[FakeParams], model: str, tenant: str, weight: float, priority: int, patience: int | None
    ) -> None:
        deadline = None if patience is None else self.harness.clock.now + patience
        request = self.harness.submit(
            *rows, model=model, tenant=tenant, weight=weight, priority=priority, deadline=deadline
        )
        self.rows.update({(request, index): params for index, params in enumerate(rows)})
        if deadline is not None:
            self.disturbed.add(request)

    @rule(times=st.integers(1, 4))
    def step(self, times: int) -> None:
        self.harness.step(times)

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds: int) -> None:
        self.harness.clock.now += seconds

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        request, _ = data.draw(st.sampled_from(sorted(self.rows)))
        self.harness.engine.abort(request)
        self.disturbed.add(request)

    @invariant()
    def gauges_count_what_is_there(self) -> None:
        stats = self.harness.engine.stats()
        for model, sampler in self.harness.samplers.items():
            assert stats[model].running_rows == len(sampler.live)
        waiting = sum(each.waiting_cost for each in stats.values())
        assert abs(waiting - self.harness.engine.backlog.total) < 1e-6

    def teardown(self) -> None:
        self.harness.finish(limit=50 + 20 * len(self.rows))
        assert set(self.harness.finals) == set(self.rows)
        for key, params in self.rows.items():
            reason = self.harness.finals[key].finish_reason
            assert reason in expected_reasons(params) or key[0] in self.disturbed
            got, whole = self.harness.chunks(*key), solo(params)
            assert got == (whole if reason is FinishReason.LENGTH else whole[: len(got)])
        self.harness.check_nothing_is_left()


TestEngineMachine = EngineMachine.TestCase
TestEngineMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@given(st.lists(any_rows, min_size=2, max_size=6))
def test_a_failure_in_a_batch_leaves_the_survivors_as_if_alone(rows: list[FakeParams]) -> None:
    harness = Harness(FakeSampler(max_batch_size=8))
    request = harness.submit(*rows)
    harness.finish()
    for index, params in enumerate(rows):
        assert {harness.reason(request, index)} == expected_reasons(params)
        assert harness.chunks(request, index) == solo(params)
    harness.check_nothing_is_left()


@given(
    large=st.integers(2, BUDGET),
    rivals=st.lists(st.tuples(st.integers(1, BUDGET), st.integers(1, 4), st.sampled_from("ab")), min_size=5),
)
def test_a_row_is_not_starved_by_smaller_rows_that_keep_coming(large: int, rivals: list[tuple[int, int, str]]) -> None:
    """A rival is submitted at each step; the row starts once those that ran before it are gone."""
    harness = Harness(FakeSampler(max_batch_size=4, budget=BUDGET))
    for size, steps, key in rivals[:2]:
        harness.submit(FakeParams(size=size, steps=steps, key=key), tenant="rival")
    waiting = harness.submit(FakeParams(size=large, steps=1, key="c"))
    for step in range(60):
        size, steps, key = rivals[step % len(rivals)]
        harness.submit(FakeParams(size=size, steps=steps, key=key), tenant="rival")
        harness.step()
        if harness.reason(waiting) is not None:
            return
    raise AssertionError("the row starves")


@given(keys=st.lists(st.sampled_from("abc"), min_size=6, max_size=30))
def test_every_key_with_running_rows_steps_once_a_round(keys: list[str]) -> None:
    harness = Harness(FakeSampler(max_batch_size=2))
    for key in keys:
        harness.submit(FakeParams(key=key, steps=1000))
    harness.step(12)
    turns = [batch[0].key for batch in harness.sampler.batches]
    for start in range(0, 12 - len(set(keys)) + 1):
        assert set(turns[start : start + len(set(keys))]) == set(keys)


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 3)), min_size=1, max_size=30), st.floats(0, 40))
def test_the_waiting_cost_never_exceeds_its_bound(requests: list[tuple[float, int]], bound: float) -> None:
    harness = Harness(FakeSampler(max_batch_size=1), max_waiting_cost=bound)
    for cost, steps in requests:
        before = harness.engine.backlog.total
        try:
            harness.submit(FakeParams(cost=cost, steps=1))
            assert harness.engine.backlog.total <= bound
        except QueueFull:
            assert before + cost > bound
        harness.step(steps)
    harness.finish()
    harness.check_nothing_is_left()
