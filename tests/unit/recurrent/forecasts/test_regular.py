"""Seasons: of a calendar, of the client, or found in the values."""

from __future__ import annotations

import numpy as np
import pytest

from services.families.recurrent.forecasts.regular import check_regular, estimated_season, season_of
from shared.errors import InvalidRequest
from shared.schemas.forecasts import Series
from tests.unit.recurrent.forecasts.tiny import wave


def series_of(times: list[str] | list[float] | None, count: int = 60, **fields: object) -> Series:
    return Series.model_validate({"values": [float(i % 7) for i in range(count)], "times": times, **fields})


def days(count: int, step: str) -> list[str]:
    first = np.datetime64("2023-01-01T00:00", "m")
    return [str(first + np.timedelta64(i, step)) for i in range(count)]


@pytest.mark.parametrize(
    ("times", "season"),
    [
        ([f"{2000 + i // 12}-{i % 12 + 1:02}" for i in range(60)], 12),
        ([f"{2000 + i // 4}-{i % 4 * 3 + 1:02}-01" for i in range(60)], 4),
        ([str(1900 + i) for i in range(60)], 1),
        (days(60, "h"), 24),
        (days(60, "D"), 7),
    ],
)
def test_a_calendar_says_what_a_season_is(times: list[str], season: int) -> None:
    series = series_of(times)
    check_regular(series, "input", "tiny")
    assert season_of(series, "input", "tiny", 168) == season


def test_a_client_s_period_goes_before_all_else() -> None:
    assert season_of(series_of(days(60, "D"), period=14), "input", "tiny", 168) == 14
    assert season_of(series_of(None, period=1), "input", "tiny", 168) == 1


def test_a_calendar_s_season_needs_two_of_them_in_the_series() -> None:
    assert season_of(series_of(days(40, "h"), 40), "input", "tiny", 168) == 7  # what the values repeat


@pytest.mark.parametrize("season", [4, 7, 12, 24, 37])
def test_a_season_is_found_under_a_trend_and_noise(season: int) -> None:
    noise = np.random.default_rng(0).normal(scale=2, size=200)
    found = estimated_season((np.array(wave(200, season)) + noise).tolist(), 168)
    assert found == pytest.approx(season, rel=0.03)


@pytest.mark.parametrize("seed", range(5))
def test_noise_and_lines_have_no_season(seed: int) -> None:
    draws = np.random.default_rng(seed)
    assert estimated_season(draws.normal(size=120).tolist(), 168) == 1
    assert estimated_season([3.0 * i for i in range(50)], 168) == 1
    assert estimated_season([2.0] * 50, 168) == 1
    assert estimated_season([1.0, 2.0, 1.0], 168) == 1


def test_intervals_may_be_off_by_a_tenth_and_no_more() -> None:
    check_regular(series_of([i + (0.09 if i == 5 else 0) for i in range(10)], 10), "input", "tiny")
    with pytest.raises(InvalidRequest):
        check_regular(series_of([i + (0.12 if i == 5 else 0) for i in range(10)], 10), "input", "tiny")
