"""When requests come: the rates, and how unevenly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import takewhile
from random import Random
from statistics import mean, variance

import pytest

from loadtests.traffic.arrivals import KINDS, PEAK, arrivals_of, day_curve

SECONDS = 5000


def drawn(kind: str, *, seconds: float = SECONDS, seed: int = 1, since: float = 0.0, **changes: float) -> list[float]:
    options = {"burst_size": 8.0, "day_s": 600.0} | changes
    times = arrivals_of(kind, **options)(Random(seed), 2.0, since)
    return list(takewhile(lambda at: at < since + seconds, times))


def counts(times: Sequence[float]) -> list[int]:
    """In each stretch of ten seconds."""
    found = Counter(int(at // 10) for at in times)
    return [found[i] for i in range(SECONDS // 10)]


def dispersion(times: Sequence[float]) -> float:
    return variance(counts(times)) / mean(counts(times))


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_have_the_same_mean_rate_and_never_go_back(kind: str) -> None:
    times = drawn(kind, seconds=SECONDS - SECONDS % 600 if kind == "diurnal" else SECONDS)
    assert len(times) / (4800 if kind == "diurnal" else SECONDS) == pytest.approx(2.0, rel=0.1)
    assert times == sorted(times)


def test_poisson_counts_vary_as_much_as_their_mean_and_bursts_by_what_their_size_says() -> None:
    assert dispersion(drawn("poisson")) == pytest.approx(1.0, abs=0.2)
    assert dispersion(drawn("bursts")) == pytest.approx(15, rel=0.3)
    assert dispersion(drawn("bursts", burst_size=1)) == pytest.approx(1.0, abs=0.2)


def test_bursts_are_of_the_size_that_was_asked_for_and_come_at_once() -> None:
    sizes = Counter(drawn("bursts")).values()
    assert mean(sizes) == pytest.approx(8, rel=0.1)


def test_a_day_rises_and_falls_by_its_curve() -> None:
    times = drawn("diurnal", seconds=4800)
    by_hour = Counter(int(at % 600 / 25) for at in times)
    for hour in range(24):
        expected = 8 * 25 * 2.0 * day_curve((hour + 0.5) / 24)
        assert by_hour[hour] == pytest.approx(expected, abs=4 * expected**0.5), hour
    assert by_hour[16] > 5 * by_hour[4]


def test_the_curve_of_a_day_has_the_mean_of_one_and_stays_below_its_peak() -> None:
    values = [day_curve(i / 1000) for i in range(1000)]
    assert mean(values) == pytest.approx(1.0, abs=1e-6)
    assert max(values) <= PEAK
    assert min(values) > 0


def test_a_user_who_comes_later_has_the_time_of_day_that_the_others_have() -> None:
    night = drawn("diurnal", since=600 * 10 + 75, seconds=50)
    noon = drawn("diurnal", since=600 * 10 + 375, seconds=50)
    assert all(at >= 6075 for at in night)
    assert len(noon) > 3 * len(night)


def test_the_same_seed_gives_the_same_times_and_another_gives_others() -> None:
    def first(seed: int) -> list[float]:
        times: Iterator[float] = arrivals_of("bursts", burst_size=4, day_s=60)(Random(seed), 1.0, 0.0)
        return [next(times) for _ in range(20)]

    assert first(3) == first(3) != first(4)
