"""How many replicas: what is needed, what is kept, and how long it takes to change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from services.scaling.load import ReplicaLoad
from services.scaling.policy import Memory, Targets, View, decide

TARGETS = Targets(
    target_wait_s=5,
    target_busy=0.9,
    target_ongoing=8,
    growth=2,
    release=0.7,
    upscale_delay_s=1,
    downscale_delay_s=100,
    idle_s=300,
)


def load(*, wait: float = 0.0, busy: float = 0.5, arriving: float | None = None, paced: bool = True) -> ReplicaLoad:
    return ReplicaLoad(8.0, wait, busy, busy if arriving is None else arriving, float(paced))


FULL = load(wait=20, busy=1, arriving=3)
IDLE = load(busy=0)


def view(*loads: ReplicaLoad | None, wanted: int | None = None, least: int = 0, requests: float = 8) -> View:
    return View(0.0, loads, len(loads) if wanted is None else wanted, least, 16, requests)


def after(views: Sequence[tuple[float, View]], targets: Targets = TARGETS) -> list[int]:
    """What is wanted after each view, where each sees what was wanted before."""
    found: list[int] = []
    memory = Memory()
    for at, each in views:
        wanted = found[-1] if found else each.wanted
        decision, memory = decide(replace(each, at=at, wanted=wanted), targets, memory)
        found.append(decision)
    return found


def at_once(each: View, **changes: float) -> int:
    targets = replace(TARGETS, upscale_delay_s=0, downscale_delay_s=0, **changes)
    return decide(each, targets, Memory())[0]


def test_replicas_that_keep_within_the_targets_are_left_alone() -> None:
    assert at_once(view(load(wait=4, busy=0.8), load(wait=4, busy=0.8))) == 2


def test_a_wait_over_the_target_gets_as_many_replicas_as_keep_up_with_what_arrives() -> None:
    two = load(wait=6, busy=1, arriving=1.3)
    assert at_once(view(two, two)) == 3


def test_a_long_queue_beside_a_replica_with_room_adds_none() -> None:
    assert at_once(view(load(wait=100, busy=1), load(busy=0.5))) == 2


def test_a_queue_that_the_replicas_work_off_in_time_adds_none() -> None:
    draining = load(wait=30, busy=1, arriving=0.4)
    assert at_once(view(draining, draining, draining)) == 3


def test_replicas_busier_than_the_target_get_help_before_there_is_a_queue() -> None:
    assert at_once(view(load(busy=0.95), load(busy=0.95))) == 3


def test_one_decision_adds_no_more_than_the_growth_of_what_runs_and_always_one() -> None:
    flood = load(wait=60, busy=1, arriving=50)
    assert at_once(view(flood)) == 2
    assert at_once(view(flood, flood, flood)) == 6
    assert at_once(view(flood, flood), growth=1.2) == 3


def test_replicas_that_are_starting_count_so_that_no_more_are_added_while_they_load() -> None:
    flood = load(wait=60, busy=1, arriving=50)
    views = [(float(second), view(flood, wanted=1)) for second in range(60)]
    assert set(after(views)[2:]) == {2}


def test_the_most_and_the_least_hold_whatever_is_needed() -> None:
    flood = load(wait=60, busy=1, arriving=50)
    assert at_once(replace(view(flood, flood, flood), most=4)) == 4
    assert at_once(view(IDLE, IDLE, IDLE, least=2)) == 2


def test_a_need_that_passes_before_the_delay_adds_none() -> None:
    calm = view(load())
    assert after([(0.0, view(FULL)), (0.9, view(FULL)), (1.0, calm), (1.1, view(FULL)), (2.0, view(FULL))]) == [1] * 5
    assert after([(0.0, view(FULL)), (0.9, view(FULL)), (1.0, view(FULL))]) == [1, 1, 2]


def test_fewer_are_wanted_only_once_fewer_were_enough_for_the_whole_delay() -> None:
    spare = view(load(busy=0.2), load(busy=0.2), load(busy=0.2))
    busy = view(load(busy=0.8), load(busy=0.8), load(busy=0.8))
    assert after([(0.0, spare), (99.0, spare), (100.0, spare)]) == [3, 3, 1]
    assert after([(0.0, spare), (50.0, busy), (100.0, spare), (199.0, spare)]) == [3] * 4


def test_none_is_released_while_a_new_request_would_wait_too_long_however_little_has_been_done() -> None:
    just_paced = load(wait=30, busy=0.1, arriving=0.1)
    assert after([(0.0, view(just_paced, wanted=2)), (500.0, view(just_paced))]) == [2, 2]


def test_as_many_are_kept_as_the_busiest_moment_of_the_delay_needed() -> None:
    calm, busier = view(*[load(busy=0.1)] * 4), view(*[load(busy=0.25)] * 4)
    assert after([(0.0, calm), (50.0, busier), (100.0, calm)]) == [4, 4, 2]


def test_the_margin_keeps_a_replica_without_which_the_others_would_be_nearly_full() -> None:
    assert at_once(view(load(busy=0.4), load(busy=0.4))) == 2, (
        "0.8 of one replica is under its target, without a margin"
    )
    assert at_once(view(load(busy=0.3), load(busy=0.3))) == 1


def test_a_replica_that_has_said_nothing_yet_costs_no_other_its_place() -> None:
    assert at_once(view(IDLE, IDLE, None)) == 3
    assert at_once(view(None, None)) == 2


def test_a_replica_that_has_said_nothing_yet_has_room() -> None:
    assert at_once(view(FULL, None)) == 2


def test_without_a_pace_requests_are_counted() -> None:
    unknown = load(wait=0, busy=1, paced=False)
    assert at_once(view(unknown, requests=17), growth=9) == 3
    assert at_once(view(unknown, unknown, requests=9)) == 2
    assert at_once(view(unknown, unknown, requests=5)) == 1, "five are under 0.7 of eight"


def test_a_service_at_rest_gets_what_its_queued_requests_justify() -> None:
    assert at_once(view(requests=1)) == 1
    assert at_once(view(requests=0.1)) == 1, "a mean over a window that began before the request"


def test_an_idle_service_rests_after_the_delay_from_any_number_and_never_below_its_least() -> None:
    idle = view(IDLE, IDLE, requests=0)
    assert after([(0.0, idle), (99.0, idle), (299.0, idle), (300.0, idle)]) == [2, 2, 1, 0]
    kept = replace(idle, least=1)
    assert after([(0.0, kept), (300.0, kept), (900.0, kept)])[-1] == 1


def test_one_request_makes_the_idle_time_begin_anew() -> None:
    idle, asked = view(IDLE, requests=0), view(IDLE, requests=0.5)
    assert after([(0.0, idle), (200.0, asked), (201.0, idle), (500.0, idle), (501.0, idle)]) == [1, 1, 1, 1, 0]


def test_a_replica_that_never_reports_does_not_keep_an_idle_service_up() -> None:
    assert after([(0.0, view(None, requests=0)), (300.0, view(None, requests=0))]) == [1, 0]


@pytest.mark.parametrize("requests", [0, 1, 100])
def test_a_decision_is_a_function_of_what_it_is_given(requests: float) -> None:
    each = view(FULL, None, requests=requests)
    assert decide(each, TARGETS, Memory()) == decide(each, TARGETS, Memory())
