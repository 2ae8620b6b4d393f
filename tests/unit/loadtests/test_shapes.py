"""How the number of users changes over a test."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from loadtests.shapes import SHAPES, USUAL_S, Course, shape_of

COURSE = Course(base=10, peak=100, seconds=100, steps=4)


@pytest.mark.parametrize(
    ("name", "at", "users"),
    [
        ("ramp", (0, 50, 99.9), (10, 55, 100)),
        ("step", (0, 24, 26, 51, 76, 99), (10, 10, 40, 70, 100, 100)),
        ("spike", (0, 39, 41, 59, 61, 99), (10, 10, 100, 100, 10, 10)),
        ("soak", (0, 2.5, 5, 50, 99), (10, 55, 100, 100, 100)),
    ],
)
def test_a_shape_has_its_users_at_its_times(name: str, at: tuple[float, ...], users: tuple[int, ...]) -> None:
    assert tuple(SHAPES[name](COURSE, second) for second in at) == users


def test_one_step_is_the_peak() -> None:
    assert SHAPES["step"](Course(1, 9, 10, steps=1), 3) == 9


def environment(*, workers: int = 1, **changes: Any) -> Any:
    options = {"num_users": 50, "run_time": 20, "shape_base": None, "shape_steps": 5} | changes
    return SimpleNamespace(parsed_options=SimpleNamespace(**options), runner=SimpleNamespace(worker_count=workers))


def ticks(shape: Any, *seconds: float) -> list[Any]:
    """What Locust would be told at these seconds."""
    found: list[Any] = []
    for second in seconds:
        shape.get_run_time = lambda second=second: second
        found.append(shape.tick())
    return found


def test_without_a_shape_or_a_trace_locust_keeps_its_users() -> None:
    assert shape_of(None, environment(), trace_s=None) is None


def test_a_shape_takes_locusts_own_users_and_run_time_and_then_ends_the_test() -> None:
    first, middle, last = ticks(shape_of("spike", environment(), trace_s=None), 0, 10, 20)
    assert (first[0], middle[0], last) == (5, 50, None)
    assert first[1] == middle[1] >= 50  # users change at once, and the same answer never starts a change anew


def test_a_shape_has_a_foot_of_its_own_and_a_usual_length() -> None:
    shape = shape_of("ramp", environment(shape_base=20, run_time=None), trace_s=None)
    assert [tick and tick[0] for tick in ticks(shape, 0, USUAL_S / 2, USUAL_S)] == [20, 35, None]


def test_what_locusts_page_changes_holds_for_the_next_test() -> None:
    around = environment()
    shape = shape_of("soak", around, trace_s=None)
    around.parsed_options.num_users = 7
    assert ticks(shape, 10)[0][0] == 7


def test_a_trace_has_a_user_in_each_process_until_its_last_request() -> None:
    shape = shape_of(None, environment(workers=3, run_time=None), trace_s=8.0)
    during, after = ticks(shape, 8.5, 9.5)
    assert (during[0], after) == (3, None)


def test_a_trace_is_cut_short_by_the_run_time() -> None:
    assert ticks(shape_of(None, environment(run_time=5), trace_s=8.0), 5.0) == [None]
