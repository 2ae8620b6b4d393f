"""What every family must pass: one suite, driven through a real `Engine` with the family's own sampler.

A family's test file gives one or more cases, and names its subclass Test*:

    @pytest.fixture(scope="module", params=["mnist", "emoji"])
    def case(request: pytest.FixtureRequest) -> ContractCase[...]:
        return ContractCase(name=request.param, make_sampler=..., params=[...], result=..., live=...)

    class TestGan(SamplerContract):
        pass
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pytest

from services.engine.contract import FinishReason, Params, Sampler
from services.engine.errors import RowFailed
from tests.contract.driver import Driver, FaultySampler, Run, bare_loop, run_rows

ResultT = TypeVar("ResultT")
ENDED_WELL = {FinishReason.STOP, FinishReason.LENGTH}


@dataclass(frozen=True)
class ContractCase(Generic[ResultT]):
    """One family's sampler and a mixed load for it.

    `params`: at least three seeded rows that may run together (equal batch keys, all fit at once), differing in
    length and options; at least two take three steps or more, save in a `one_shot` case. `result` joins a row's
    chunks (previews are left out) into something that `equal` compares: exactly for tokens, within the stated
    tolerance for pixels. `live` counts the rows, slots or bytes that the sampler holds for running rows; it is 0
    before the first row.

    `reference`, if there is one, gives a row's whole result without the sampler, as `model.generate` would.
    `broken_batch`, if the family can do it, makes the sampler's next step of two or more rows raise after it has
    computed some of them: a context manager that restores the sampler on exit. Without it the step raises at once.

    `one_shot`: every row ends with its first step, and all of them share it. No row is ever met midway.
    """

    name: str
    make_sampler: Callable[[], Sampler[Any, Any, Any]]
    params: Sequence[Params]
    result: Callable[[Sequence[Any]], ResultT]
    live: Callable[[Any], int]
    equal: Callable[[ResultT, ResultT], bool] = operator.eq
    reference: Callable[[Params], ResultT] | None = None
    broken_batch: Callable[[Any], AbstractContextManager[object]] | None = None
    one_shot: bool = False


def result_of(case: ContractCase[ResultT], run: Run, request: int) -> ResultT:
    """What the row delivered; it must have ended well."""
    final = run.final(request)
    assert final.finish_reason in ENDED_WELL, f"{case.name}: row {request} ended with {final.error!r}"
    assert final.units > 0, f"{case.name}: row {request} counts no work"
    return case.result(run.chunks(request))


def run_alone(case: ContractCase[ResultT]) -> list[ResultT]:
    """Each row's result when nothing else runs, each from a fresh sampler."""
    return [result_of(case, run_rows(case.make_sampler(), [params]), 1) for params in case.params]


def check_results(case: ContractCase[ResultT], run: Run, expected: dict[int, ResultT]) -> None:
    for request, whole in expected.items():
        got = result_of(case, run, request)
        assert case.equal(whole, got), f"{case.name}: row {request} is {got!r}, alone it is {whole!r}"


class SamplerContract:
    """Needs a fixture `case` of class scope or wider."""

    @pytest.fixture(scope="class")
    @classmethod
    def alone(cls, case: ContractCase[Any]) -> list[Any]:
        return run_alone(case)

    def test_the_case_is_a_mixed_load_that_can_share_a_batch(self, case: ContractCase[Any]) -> None:
        sampler = case.make_sampler()
        assert len(case.params) >= 3
        assert len({sampler.batch_key(params) for params in case.params}) == 1
        assert case.live(sampler) == 0
        driver = Driver(sampler)
        requests = [driver.submit(params) for params in case.params]
        if case.one_shot:
            state = sampler.start(case.params[0])
            assert case.live(sampler) > 0
            sampler.release(state)
            driver.step()
            assert all(driver.run.final(request) for request in requests), "every row must end with its first step"
            return
        driver.step()
        assert case.live(sampler) > 0
        driver.step()
        running = [request for request in requests if all(o.finish_reason is None for o in driver.run.outputs[request])]
        assert len(running) >= 2, "at least two rows must take three steps or more"
        driver.finish()

    def test_a_row_in_a_batch_equals_the_row_alone(self, case: ContractCase[Any], alone: list[Any]) -> None:
        run = run_rows(case.make_sampler(), case.params)
        check_results(case, run, dict(enumerate(alone, start=1)))

    def test_the_order_of_the_batch_does_not_change_a_row(self, case: ContractCase[Any], alone: list[Any]) -> None:
        run = run_rows(case.make_sampler(), list(reversed(case.params)))
        check_results(case, run, dict(enumerate(reversed(alone), start=1)))

    def test_the_same_seed_gives_the_same_result_again(self, case: ContractCase[Any], alone: list[Any]) -> None:
        sampler = case.make_sampler()  # one sampler, so that whatever the first run leaves behind is met
        for _ in range(2):
            check_results(case, run_rows(sampler, case.params), dict(enumerate(alone, start=1)))

    def test_twins_in_one_batch_are_equal(self, case: ContractCase[Any], alone: list[Any]) -> None:
        run = run_rows(case.make_sampler(), [case.params[0], case.params[1], case.params[0]])
        check_results(case, run, {1: alone[0], 2: alone[1], 3: alone[0]})

    def test_rows_that_join_midway_equal_the_rows_alone(self, case: ContractCase[Any], alone: list[Any]) -> None:
        driver = Driver(case.make_sampler())
        for params in case.params:
            driver.submit(params)
            driver.step()
            driver.step()
        check_results(case, driver.finish(), dict(enumerate(alone, start=1)))

    def test_rows_that_wait_for_a_place_equal_the_rows_alone(self, case: ContractCase[Any], alone: list[Any]) -> None:
        sampler = case.make_sampler()
        copies = sampler.max_batch_size // len(case.params) + 2
        run = run_rows(sampler, list(case.params) * copies)
        check_results(case, run, dict(enumerate(alone * copies, start=1)))
        assert case.live(sampler) == 0

    def test_streamed_pieces_join_to_the_whole(self, case: ContractCase[Any], alone: list[Any]) -> None:
        """The whole is the family's reference, or else what a bare loop around the sampler gives."""
        for params, got in zip(case.params, alone, strict=True):
            if case.reference is not None:
                whole = case.reference(params)
            else:
                whole = case.result(list(bare_loop(case.make_sampler(), params)))
            assert case.equal(whole, got), f"{case.name}: pieces join to {got!r}, the whole is {whole!r}"

    def test_every_row_ends_with_one_final_output_and_leaves_nothing(self, case: ContractCase[Any]) -> None:
        sampler = case.make_sampler()
        run = run_rows(sampler, case.params)
        for request in run.outputs:
            assert run.final(request).finish_reason in ENDED_WELL
        assert case.live(sampler) == 0

    @pytest.mark.parametrize("steps", [0, 1, 2])
    def test_an_abort_midway_frees_the_row_and_spares_the_others(
        self, case: ContractCase[Any], alone: list[Any], steps: int
    ) -> None:
        sampler = case.make_sampler()
        driver = Driver(sampler)
        victims = [driver.submit(case.params[0]), driver.submit(case.params[-1])]
        for _ in range(steps):
            driver.step()
        survivor = driver.submit(case.params[1])
        for request in victims:
            driver.engine.abort(request)
        assert case.live(sampler) == 0
        run = driver.finish()
        assert all(run.final(request).finish_reason in ENDED_WELL | {FinishReason.ABORT} for request in victims)
        check_results(case, run, {survivor: alone[1]})
        assert case.live(sampler) == 0

    def test_an_abort_in_a_batch_leaves_its_mates_as_if_alone(self, case: ContractCase[Any], alone: list[Any]) -> None:
        sampler = case.make_sampler()
        driver = Driver(sampler)
        requests = [driver.submit(params) for params in case.params]
        driver.step()
        before = case.live(sampler)
        driver.engine.abort(requests[0])
        assert case.live(sampler) < before or driver.run.final(requests[0]).finish_reason in ENDED_WELL
        check_results(case, driver.finish(), dict(zip(requests[1:], alone[1:], strict=True)))
        assert case.live(sampler) == 0

    def test_a_step_that_fails_once_changes_no_result(self, case: ContractCase[Any], alone: list[Any]) -> None:
        """Compute first, commit last: the failed batch left every state as it was."""
        for fault_at in range(1 if case.one_shot else 3):
            sampler = case.make_sampler()
            if case.broken_batch is None:
                calls = iter(range(10**9))
                sampler = FaultySampler(sampler, lambda rows, at=fault_at, n=calls: next(n) == at)
            driver = Driver(sampler)
            requests = [driver.submit(params) for params in case.params]
            for _ in range(fault_at):
                driver.step()
            if case.broken_batch is not None:
                with case.broken_batch(sampler):
                    driver.step()
            check_results(case, driver.finish(), dict(zip(requests, alone, strict=True)))

    def test_a_row_that_always_fails_fails_alone(self, case: ContractCase[Any], alone: list[Any]) -> None:
        culprit = case.params[1]
        inner = case.make_sampler()
        sampler = FaultySampler(inner, lambda rows: any(params is culprit for params in rows))
        run = run_rows(sampler, case.params)
        assert sampler.faults > 0
        final = run.final(2)
        assert final.finish_reason is FinishReason.ERROR
        assert isinstance(final.error, RowFailed)
        assert isinstance(final.error.__cause__, RuntimeError)
        check_results(case, run, {i: whole for i, whole in enumerate(alone, start=1) if i != 2})
        assert case.live(inner) == 0

    def test_the_sampler_works_on_after_a_failure(self, case: ContractCase[Any], alone: list[Any]) -> None:
        inner = case.make_sampler()
        failed = run_rows(FaultySampler(inner, lambda rows: True), case.params)
        assert all(failed.final(request).finish_reason is FinishReason.ERROR for request in failed.outputs)
        assert case.live(inner) == 0
        check_results(case, run_rows(inner, case.params), dict(enumerate(alone, start=1)))
