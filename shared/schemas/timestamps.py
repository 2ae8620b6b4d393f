"""Owns times that are texts of ISO 8601: reading them, going on in their steps, writing them as they came.

A month, a quarter and a year are steps of the calendar, of unequal days. Standard library and pydantic only.
"""

from __future__ import annotations

import calendar
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

_FORM = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)"
    r"(?:(?P<between>[T ])\d\d:\d\d(?P<seconds>:\d\d(?P<part>\.\d{1,6})?)?(?P<zone>Z|[+-]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
_MONTHS_OF_A_YEAR = 12


def _checked(text: str) -> str:
    try:
        moment_of(text)
    except (ValueError, OverflowError):
        message = "a time must be a number, or a year, month, day or moment of ISO 8601, such as 2024-03-31T06:00:00Z"
        raise PydanticCustomError("invalid_timestamp", message) from None
    return text


Timestamp = Annotated[str, Field(max_length=40), AfterValidator(_checked)]


@dataclass(frozen=True, slots=True)
class Interval:
    """From one time to the next: so many months of the calendar, or if these are 0, a length of time."""

    months: int
    length: timedelta

    def after(self, moment: datetime, count: int, day: int) -> datetime:
        """`count` steps on; months keep `day` of the month, or end with the month where it is shorter."""
        if not self.months:
            return moment + count * self.length
        year, month = divmod(moment.year * _MONTHS_OF_A_YEAR + moment.month - 1 + count * self.months, 12)
        return moment.replace(year=year, month=month + 1, day=min(day, _days(year, month + 1)))


def moment_of(text: str) -> datetime:
    """Where it names no zone it is taken to be in UTC, where no day or month the first. Raises ValueError."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError("no time of ISO 8601")
    whole = text + "-01-01"[len(text) - 4 :] if match["between"] is None else text
    moment = datetime.fromisoformat(whole)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def form_of(text: str) -> tuple[bool, ...]:
    """How a time is written: equal for times of one series."""
    match = _FORM.fullmatch(text)
    assert match is not None, "checked before"
    return tuple(match[name] is not None for name in ("month", "day", "between", "zone"))


def days_of(text: str) -> float:
    """Days since 1970-01-01T00:00Z."""
    return (moment_of(text) - _EPOCH) / _DAY


def interval_of(times: Sequence[str]) -> Interval | None:
    """What leads from each of two or more times to the next; None if that is not always the same."""
    moments = [moment_of(text) for text in times]
    day = max(moment.day for moment in moments)
    months = [moment.year * _MONTHS_OF_A_YEAR + moment.month for moment in moments]
    steps = {b - a for a, b in itertools.pairwise(months)}
    same_hour = len({moment.timetz() for moment in moments}) == 1
    same_day = all(moment.day == min(day, _days(moment.year, moment.month)) for moment in moments)
    if same_hour and same_day and len(steps) == 1 and steps != {0}:
        return Interval(steps.pop(), timedelta())
    lengths = {b - a for a, b in itertools.pairwise(moments)}
    return Interval(0, lengths.pop()) if len(lengths) == 1 else None


def following(times: Sequence[str], count: int, *, even: bool = False) -> list[str]:
    """`count` times after the last of two or more, in its form.

    Irregular ones go on by the last interval, or if they are meant to be `even`, by the mean one.

    Raises OverflowError or ValueError beyond the year 9999.
    """
    interval = interval_of(times) or (_mean_interval(times) if even else interval_of(times[-2:]))
    assert interval is not None, "of two times there is one interval"
    last, day = moment_of(times[-1]), max(moment_of(text).day for text in times)
    return [_written(interval.after(last, i + 1, day), times[-1]) for i in range(count)]


def _mean_interval(times: Sequence[str]) -> Interval:
    return Interval(0, (moment_of(times[-1]) - moment_of(times[0])) / (len(times) - 1))


def _written(moment: datetime, like: str) -> str:
    match = _FORM.fullmatch(like)
    assert match is not None, "checked before"
    if match["between"] is None:
        return moment.date().isoformat()[: len(like)]
    precision = "microseconds" if match["part"] else "seconds" if match["seconds"] else "minutes"
    text = moment.isoformat(sep=match["between"], timespec=precision)
    if match["zone"] == "Z" or match["zone"] is None:
        return text.removesuffix("+00:00") + (match["zone"] or "")
    return text


def _days(year: int, month: int) -> int:
    return calendar.monthrange(year, month)[1]
