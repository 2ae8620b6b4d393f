"""Owns forecasts: series with their times, and quantiles of what may follow."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from shared.schemas.common import RequestModel, ResponseModel, refusal
from shared.schemas.images import Seed
from shared.schemas.items import ItemList, ItemsCall

MAX_SERIES = 256
MAX_POINTS = 4096
MAX_PATHS = 1000

Number = Annotated[float, Field(ge=-1e12, le=1e12)]
Points = Annotated[list[Number], Field(min_length=1, max_length=MAX_POINTS, fail_fast=True)]
Level = Annotated[float, Field(gt=0.0, lt=1.0)]


class Series(RequestModel):
    """Observed values. `times`, in a unit of the client's own, may be irregular; left out they are 0, 1, 2 ..."""

    values: Points
    times: Points | None = None

    @model_validator(mode="after")
    def _times_fit_values(self) -> Series:
        if self.times is None:
            return self
        if len(self.times) != len(self.values):
            raise refusal("times", f"times must be as many as values ({len(self.values)}); got {len(self.times)}")
        if any(b <= a for a, b in zip(self.times, self.times[1:], strict=False)):
            raise refusal("times", "times must increase")
        return self

    @property
    def clock(self) -> list[float]:
        return [float(i) for i in range(len(self.values))] if self.times is None else list(self.times)


class ForecastRequest(ItemsCall):
    """What follows each series: at `times` after its last, or at the next `horizon` regular ones."""

    input: Series | Annotated[list[Series], Field(min_length=1, max_length=MAX_SERIES, fail_fast=True)]
    horizon: int | None = Field(default=None, ge=1, le=MAX_POINTS, description="so many steps of the last interval")
    times: Points | None = Field(default=None, description="when, for all series alike")
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


class QuantilePath(ResponseModel):
    level: float
    values: list[float]


class Forecast(ResponseModel):
    object: Literal["forecast"] = "forecast"
    index: int
    times: list[float]
    mean: list[float]
    quantiles: list[QuantilePath]
    samples: int
    seed: int = Field(description="gives this very forecast again: the same request with this series alone")


class Forecasts(ItemList):
    data: list[Forecast]
