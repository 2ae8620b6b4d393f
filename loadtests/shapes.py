"""Owns how the number of users changes over a test: Locust's load shapes, and the functions of time behind them.

All take Locust's own options: `--users` is the most, `--run-time` how long it takes. In an open loop a user is a rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from locust import LoadTestShape
from locust.env import Environment

USUAL_S = 300.0
TAIL_S = 1.0  # workers begin a trace a little after their master
AT_ONCE = 100.0  # users a second; above, Locust warns


@dataclass(frozen=True, slots=True)
class Course:
    """What a shape is given: users at its foot and at its top, and seconds from its start to its end."""

    base: int
    peak: int
    seconds: float
    steps: int = 5

    def between(self, share: float) -> int:
        return round(self.base + (self.peak - self.base) * share)


def ramp(course: Course, second: float) -> int:
    """from the base to the peak in a straight line"""
    return course.between(second / course.seconds)


def step(course: Course, second: float) -> int:
    """from the base to the peak in equal steps"""
    if course.steps == 1:
        return course.peak
    number = min(course.steps - 1, int(course.steps * second / course.seconds))
    return course.between(number / (course.steps - 1))


def spike(course: Course, second: float) -> int:
    """the base, but in the middle fifth the peak"""
    return course.peak if 0.4 <= second / course.seconds < 0.6 else course.base


def soak(course: Course, second: float) -> int:
    """the peak all the time, after a twentieth in which it is reached"""
    return course.between(min(1.0, 20 * second / course.seconds))


SHAPES: Mapping[str, Callable[[Course, float], int]] = {"ramp": ramp, "step": step, "spike": spike, "soak": soak}


class TimedShape(LoadTestShape):
    """So many users at so many seconds, until there are none to say."""

    use_common_options = True  # Locust's page shows --users and --run-time, which `shape_of` reads
    abstract = True  # Locust would take any that it finds in a locustfile: this one is set where it is asked for

    def __init__(self, users_at: Callable[[float], int | None]) -> None:
        super().__init__()
        self._users_at = users_at

    def tick(self) -> tuple[int, float] | None:
        users = self._users_at(self.get_run_time())
        return None if users is None else (max(1, users), max(AT_ONCE, users))


def shape_of(name: str | None, environment: Environment, *, trace_s: float | None) -> TimedShape | None:
    """By name; of a trace whose last request comes at `trace_s`, a user in each process until then. Else none.

    Options are read at each tick: Locust's page may change them from one test to the next.
    """

    def course() -> Course:
        options = environment.parsed_options
        peak = int(options.num_users or 1)
        base = int(options.shape_base or max(1, round(peak / 10)))
        return Course(base, peak, float(options.run_time or USUAL_S), int(options.shape_steps))

    def along_trace(second: float) -> int | None:
        longest = float(environment.parsed_options.run_time or math.inf)
        return None if second >= min(longest, (trace_s or 0.0) + TAIL_S) else environment.runner.worker_count

    def along_course(second: float) -> int | None:
        found = course()
        return None if second >= found.seconds else SHAPES[name or ""](found, second)

    if name is None and trace_s is None:
        return None
    shape = TimedShape(along_trace if name is None else along_course)
    shape.runner = environment.runner
    return shape
