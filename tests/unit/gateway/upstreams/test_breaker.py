"""The circuit breaker by a clock that is moved by hand."""

from __future__ import annotations

import pytest

from services.gateway.upstreams.breaker import TRIAL_S, Breaker, Pass
from tests.unit.gateway.fakes import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(failures=3, pause_s=10, clock=clock)


def entered(breaker: Breaker) -> Pass:
    leave = breaker.enter()
    assert leave is not None
    return leave


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.failed(entered(breaker))


def test_it_opens_at_the_failure_that_completes_the_row_and_no_sooner(breaker: Breaker) -> None:
    fail(breaker, 2)
    assert breaker.wait_s == 0
    fail(breaker)
    assert (breaker.enter(), breaker.wait_s) == (None, 10)


def test_a_request_that_fails_again_and_again_counts_once(breaker: Breaker) -> None:
    for is_first in (True, False, False, False):
        breaker.failed(entered(breaker), is_first=is_first)
    fail(breaker)
    assert breaker.wait_s == 0
    fail(breaker)
    assert breaker.wait_s == 10


def test_a_trial_that_fails_opens_it_again_though_its_request_failed_before(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.seconds += 10
    breaker.failed(entered(breaker), is_first=False)
    assert breaker.wait_s == 10


def test_a_whole_answer_in_between_clears_the_record(breaker: Breaker) -> None:
    fail(breaker, 2)
    breaker.answered(entered(breaker))
    breaker.succeeded()
    fail(breaker, 2)
    assert breaker.enter() is not None


def test_answers_that_break_off_open_it_though_each_began_well(breaker: Breaker) -> None:
    for _ in range(3):
        breaker.answered(entered(breaker))
        breaker.failed()
    assert breaker.enter() is None


def test_after_the_pause_one_try_goes_ahead_and_the_others_wait_for_its_end(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.seconds += 10
    trial = entered(breaker)
    assert trial.is_trial
    assert (breaker.enter(), breaker.wait_s) == (None, TRIAL_S)
    breaker.answered(trial)
    assert not entered(breaker).is_trial


def test_a_trial_that_fails_opens_it_again_for_the_whole_pause(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.seconds += 10
    breaker.failed(entered(breaker))
    assert breaker.wait_s == 10


def test_a_trial_whose_answer_breaks_off_opens_it_again(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.seconds += 10
    breaker.answered(entered(breaker))
    breaker.failed()
    assert breaker.enter() is None


def test_a_trial_given_up_by_its_client_leaves_the_trial_to_the_next(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.seconds += 10
    breaker.gave_up(entered(breaker))
    assert entered(breaker).is_trial


def test_what_began_before_it_opened_neither_prolongs_the_pause_nor_closes_it(breaker: Breaker, clock: Clock) -> None:
    early = [entered(breaker) for _ in range(2)]
    fail(breaker, 3)
    clock.seconds += 6
    breaker.failed(early[0])
    breaker.answered(early[1])
    breaker.succeeded()
    assert breaker.wait_s == 4
