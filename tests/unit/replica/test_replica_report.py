"""How long a refused request should stay away."""

from __future__ import annotations

from dataclasses import replace

from services.engine.stats import ModelCounters, ModelStats
from services.replica_report import Reporter
from tests.unit.replica.fakes import Clock

NONE = ModelCounters().snapshot()


class Engine:
    def __init__(self) -> None:
        self.now: dict[str, ModelStats] = {"a": NONE}

    def __call__(self) -> dict[str, ModelStats]:
        return self.now

    def done(self, units: float, *, waiting: float) -> None:
        self.now = {"a": replace(NONE, units=units, waiting_cost=waiting)}


def test_the_wait_is_half_the_queue_at_the_measured_rate() -> None:
    engine, clock = Engine(), Clock()
    reporter = Reporter("s", "r", stats=engine, clock=clock)
    clock.now = 2
    engine.done(200, waiting=2000)
    assert reporter.retry_after_s() == 10


def test_the_rate_is_that_of_the_last_reports_and_not_of_the_whole_life() -> None:
    engine, clock = Engine(), Clock()
    reporter = Reporter("s", "r", stats=engine, clock=clock)
    for second in range(1000, 1020):
        clock.now = second
        engine.done(100.0 * second, waiting=1000)
        reporter.report({})
    assert reporter.retry_after_s() == 5


def test_without_progress_the_longest_wait_is_given_and_never_more_or_less_than_the_bounds() -> None:
    engine, clock = Engine(), Clock()
    reporter = Reporter("s", "r", stats=engine, clock=clock)
    clock.now = 1
    engine.done(0, waiting=10)
    assert reporter.retry_after_s() == 30
    engine.done(1, waiting=1e9)
    assert reporter.retry_after_s() == 30
    engine.done(1e9, waiting=1)
    assert reporter.retry_after_s() == 1
