"""Owns forecasts: series with their times, and quantiles of what may follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from shared.schemas.common import RequestModel, ResponseModel, refusal
from shared.schemas.images import Seed
from shared.schemas.items import ItemList, ItemsCall
from shared.schemas.timestamps import Timestamp, days_of, following, form_of

MAX_SERIES = 256
MAX_POINTS = 4096
MAX_PATHS = 1000

Number = Annotated[float, Field(ge=-1e12, le=1e12)]
Points = Annotated[list[Number], Field(min_length=1, max_length=MAX_POINTS, fail_fast=True)]
Times = Annotated[list[Number | Timestamp], Field(min_length=1, max_length=MAX_POINTS, fail_fast=True)]
Level = Annotated[float, Field(gt=0.0, lt=1.0)]


def clock_of(times: Sequence[float | str]) -> list[float]:
    """Numbers as they are; of timestamps the days since 1970."""
    return [days_of(time) if isinstance(time, str) else float(time) for time in times]


class Series(RequestModel):
    """Observed values. `times` are numbers in a unit of the client's own, or timestamps; left out: 0, 1, 2 ..."""

    values: Points
    times: Times | None = Field(default=None, description="numbers, or ISO 8601 all written alike")
    period: int | None = Field(
        default=None, ge=1, le=MAX_POINTS, description="how many values a season has, 1 if there is none"
    )

    @model_validator(mode="after")
    def _times_fit_values(self) -> Series:
        if self.times is None:
            return self
        if len(self.times) != len(self.values):
            raise refusal("times", f"times must be as many as values ({len(self.values)}); got {len(self.times)}")
        if not _written_alike(self.times):
            raise refusal("times", "times must all be numbers, or all be written alike, such as 2024-03")
        if any(b <= a for a, b in zip(self.clock, self.clock[1:], strict=False)):
            raise refusal("times", "times must increase")
        return self

    @property
    def clock(self) -> list[float]:
        return [float(i) for i in range(len(self.values))] if self.times is None else clock_of(self.times)

    @property
    def timestamps(self) -> list[str] | None:
        """`times`, if they are texts."""
        return [time for time in self.times or () if isinstance(time, str)] or None

    def following(self, count: int, *, even: bool = False) -> Sequence[float | str]:
        """`count` times after the last of two or more, by the last interval, or the mean one if they are to be `even`.

        Timestamps go on by the calendar where they do so.

        Raises OverflowError or ValueError beyond the year 9999.
        """
        if self.timestamps is not None:
            return following(self.timestamps, count, even=even)
        clock = self.clock
        interval = (clock[-1] - clock[0]) / (len(clock) - 1) if even else clock[-1] - clock[-2]
        return [clock[-1] + interval * (k + 1) for k in range(count)]


class ForecastRequest(ItemsCall):
    """What follows each series: at `times` after its last, or at the next `horizon` regular ones."""

    input: Series | Annotated[list[Series], Field(min_length=1, max_length=MAX_SERIES, fail_fast=True)]
    horizon: int | None = Field(default=None, ge=1, le=MAX_POINTS, description="so many steps of the last interval")
    times: Times | None = Field(default=None, description="when, for all series alike, in their form")
    quantiles: Annotated[tuple[Level, ...], Field(min_length=1, max_length=99)] = (0.1, 0.5, 0.9)
    samples: int | None = Field(default=None, ge=1, le=MAX_PATHS, description="paths that are drawn for each series")
    seed: Seed | None = None

    @property
    def series(self) -> list[Series]:
        return self.input if isinstance(self.input, list) else [self.input]

    @property
    def rows(self) -> int:
        return len(self.series)

    @model_validator(mode="after")
    def _one_horizon(self) -> ForecastRequest:
        if (self.horizon is None) == (self.times is None):
            raise refusal("horizon", "exactly one of horizon and times must be given")
        return self

    @model_validator(mode="after")
    def _times_as_the_series(self) -> ForecastRequest:
        if self.times is None:
            return self
        texts = isinstance(self.times[0], str)
        if not _written_alike(self.times) or any((each.timestamps is not None) != texts for each in self.series):
            raise refusal("times", "times must be timestamps if those of all series are, and numbers otherwise")
        return self


def _written_alike(times: Sequence[float | str]) -> bool:
    return len({form_of(time) if isinstance(time, str) else () for time in times}) == 1


class QuantilePath(ResponseModel):
    level: float
    values: list[float]


class Forecast(ResponseModel):
    object: Literal["forecast"] = "forecast"
    index: int
    times: list[float | str] = Field(description="in the form of the series' own")
    mean: list[float]
    quantiles: list[QuantilePath]
    period: int | None = Field(default=None, description="of how many values the model took a season to be")
    samples: int
    seed: int = Field(description="gives this very forecast again: the same request with this series alone")


class Forecasts(ItemList):
    data: list[Forecast]
