"""The contract suite passes on a sampler that honours the contract, and fails on each way to break it."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from inspect import signature
from random import Random
from typing import Any

import pytest

from services.engine.contract import StepOutput
from tests.contract.fake import Chunk, FakeParams, FakeSampler, FakeState
from tests.contract.suite import ContractCase, SamplerContract, run_alone

ROWS = [
    FakeParams(seed=1, steps=5),
    FakeParams(seed=2, steps=3, silent=2),
    FakeParams(seed=3, steps=1),
    FakeParams(seed=4, steps=4, previews=True),
]


@contextmanager
def broken_batch(sampler: FakeSampler) -> Generator[None]:
    sampler.breaks_batches = True
    yield
    sampler.breaks_batches = False


def fake_case(make: Callable[[], FakeSampler] = FakeSampler, *, midway: bool = True) -> ContractCase[list[int]]:
    return ContractCase(
        name=make.__name__,
        make_sampler=make,
        params=ROWS,
        result=list,
        live=lambda sampler: len(sampler.live),
        broken_batch=broken_batch if midway else None,
    )


@pytest.fixture(scope="module", params=[False, True], ids=["raises at once", "raises midway"])
def case(request: pytest.FixtureRequest) -> ContractCase[list[int]]:
    return fake_case(midway=request.param)


class TestFake(SamplerContract):
    pass


class SharesOneGenerator(FakeSampler):
    """Batch-mates draw from each other's stream."""

    shared = Random(0)

    def start(self, params: FakeParams) -> FakeState:
        state = super().start(params)
        state.rng = self.shared
        return state

    def _compute(self, state: FakeState) -> tuple[Random, int]:
        return state.rng, state.rng.randrange(1000)


class CommitsWhileComputing(FakeSampler):
    """A step that raises has already moved the rows before the culprit."""

    def _compute(self, state: FakeState) -> tuple[Random, int]:
        rng, drawn = super()._compute(state)
        state.rng = rng
        return rng, drawn


class NeverReleases(FakeSampler):
    def fits(self, params: FakeParams, states: Sequence[FakeState]) -> bool:
        return True

    def release(self, state: FakeState) -> None:
        state.finished = True


class MixesRows(FakeSampler):
    """A row's result depends on how many run."""

    def step(self, states: Sequence[FakeState]) -> list[StepOutput[Chunk]]:
        for state in states:
            state.total += len(states) - 1
        return super().step(states)


def run_suite(make: Callable[[], FakeSampler]) -> set[str]:
    """The names of the suite's tests that fail."""
    case = fake_case(make)
    arguments: dict[str, Any] = {"case": case, "alone": run_alone(case), "steps": 1}
    failed: set[str] = set()
    for name in filter(re.compile("test_").match, dir(SamplerContract)):
        test = getattr(SamplerContract(), name)
        try:
            test(**{each: arguments[each] for each in signature(test).parameters})
        except AssertionError:
            failed.add(name)
    return failed


def test_the_suite_catches_a_generator_that_rows_share() -> None:
    assert "test_a_row_in_a_batch_equals_the_row_alone" in run_suite(SharesOneGenerator)


def test_the_suite_catches_a_commit_before_the_end_of_the_step() -> None:
    assert run_suite(CommitsWhileComputing) == {"test_a_step_that_fails_once_changes_no_result"}


def test_the_suite_catches_a_state_that_is_not_released() -> None:
    failed = run_suite(NeverReleases)
    assert "test_every_row_ends_with_one_final_output_and_leaves_nothing" in failed
    assert "test_an_abort_midway_frees_the_row_and_spares_the_others" in failed


def test_the_suite_catches_results_that_depend_on_batch_mates() -> None:
    failed = run_suite(MixesRows)
    assert "test_a_row_in_a_batch_equals_the_row_alone" in failed
    assert "test_rows_that_join_midway_equal_the_rows_alone" in failed
