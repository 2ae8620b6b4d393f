"""Times as texts: what is read, what a next one is, and how it is written."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import TypeAdapter, ValidationError

from shared.schemas.timestamps import Timestamp, days_of, following, interval_of

CHECK = TypeAdapter(Timestamp)


@pytest.mark.parametrize(
    ("times", "later"),
    [
        (["1700", "1701"], ["1702", "1703"]),
        (["2024-11", "2024-12"], ["2025-01", "2025-02"]),
        (["2023-11-30", "2023-12-31"], ["2024-01-31", "2024-02-29"]),
        (["2023-12-15", "2024-01-15"], ["2024-02-15", "2024-03-15"]),
        (["2024-02-28", "2024-02-29"], ["2024-03-01", "2024-03-02"]),
        (["2024-01-01", "2024-01-08"], ["2024-01-15", "2024-01-22"]),
        (["2024-03-31T22:00", "2024-03-31T23:00"], ["2024-04-01T00:00", "2024-04-01T01:00"]),
        (["2024-03-31T22:00:00Z", "2024-03-31T23:30:00Z"], ["2024-04-01T01:00:00Z", "2024-04-01T02:30:00Z"]),
        (["2024-03-31 22:00+02:00", "2024-03-31 23:00+02:00"], ["2024-04-01 00:00+02:00", "2024-04-01 01:00+02:00"]),
        (
            ["2024-01-01T00:00:00.5", "2024-01-01T00:00:01.0"],
            ["2024-01-01T00:00:01.500000", "2024-01-01T00:00:02.000000"],
        ),
        (["2024-01-01", "2024-01-02", "2024-01-05"], ["2024-01-08", "2024-01-11"]),  # by the last interval
    ],
)
def test_what_follows_is_a_step_on_and_written_alike(times: list[str], later: list[str]) -> None:
    assert following(times, 2) == later


def test_intervals_are_of_the_calendar_or_of_length_or_none() -> None:
    quarters = interval_of(["2024-01", "2024-04", "2024-07"])
    assert quarters is not None
    assert quarters.months == 3
    days = interval_of(["2024-01-30", "2024-01-31", "2024-02-01"])
    assert days is not None
    assert (days.months, days.length) == (0, timedelta(days=1))
    assert interval_of(["2024-01-01", "2024-02-01", "2024-02-15"]) is None


def test_zones_are_heeded_in_numbers() -> None:
    assert days_of("2024-01-01T12:00Z") == days_of("2024-01-01T14:00+02:00") == 19723.5


def test_a_step_beyond_the_last_year_is_an_error() -> None:
    with pytest.raises((OverflowError, ValueError)):
        following(["9998", "9999"], 1)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2024-13", "2023-02-29", "2024-01-01T25:00", "0000", "24-01-01", "２０２４"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="ISO 8601"):
        CHECK.validate_python(text)
