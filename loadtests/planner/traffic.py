"""Owns forecasts: requests a second, second by second, as the sum of the parts that a plan lists."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from loadtests.planner.forms import FileBeside, Floats, Part, Quantity, Seconds

DAY_S = 86400.0
COLUMNS = ("seconds", "requests_per_second")


class Diurnal(Part):
    """A cosine with a period of a day: `low` is half a day from `high`, which is at `peak_at`."""

    low: Quantity
    high: Quantity
    peak_at: Seconds = 15 * 3600.0

    @model_validator(mode="after")
    def _ordered(self) -> Diurnal:
        if self.low > self.high:
            raise ValueError(f"low ({self.low:g}) is over high ({self.high:g})")
        return self

    def rates(self, at: Floats) -> Floats:
        wave = np.cos(2 * math.pi * (at - self.peak_at) / DAY_S)
        return (self.high + self.low) / 2 + (self.high - self.low) / 2 * wave


class Burst(Part):
    """So many requests a second more from `at` on, for `lasts`; again and again with `every`."""

    at: Seconds
    lasts: Annotated[Seconds, Field(gt=0)]
    rate: Quantity
    every: Annotated[Seconds, Field(gt=0)] | None = None

    def rates(self, at: Floats) -> Floats:
        since = at - self.at
        turn = since if self.every is None else np.where(since >= 0, since % self.every, since)
        return np.where((turn >= 0) & (turn < self.lasts), self.rate, 0.0)


class Source(Part):
    """One part of a forecast: exactly one of these. `times` multiplies it."""

    constant: Quantity | None = Field(default=None, description="requests a second")
    points: list[tuple[Seconds, Quantity]] | None = Field(default=None, min_length=1, description="[[when, rate], ...]")
    diurnal: Diurnal | None = None
    burst: Burst | None = None
    arrivals: FileBeside | None = Field(default=None, description="a file of requests in each second, by white space")
    csv: FileBeside | None = Field(default=None, description=f"a file with the columns {' and '.join(COLUMNS)}")
    times: Quantity = 1.0

    @model_validator(mode="after")
    def _exactly_one(self) -> Source:
        given = [name for name in self.model_fields_set - {"times"} if getattr(self, name) is not None]
        if len(given) != 1:
            known = ", ".join(name for name in type(self).model_fields if name != "times")
            raise ValueError(f"a part of the traffic has exactly one of {known}; got {', '.join(given) or 'none'}")
        if self.points is not None:
            _ascending([when for when, _ in self.points])
        self._read()
        return self

    def _read(self) -> tuple[Sequence[float], Sequence[float]] | None:
        """What a file says: when, and the rate. None where there is no file."""
        if self.arrivals is not None:
            counts = _counts(self.arrivals)
            return range(len(counts)), counts
        return None if self.csv is None else _points_of(self.csv)

    def rates(self, seconds: int) -> Floats:
        """Requests a second, in the middle of each second. A file that is shorter stands for nothing after its end."""
        at = np.arange(seconds) + 0.5
        if self.diurnal is not None:
            return self.times * self.diurnal.rates(at)
        if self.burst is not None:
            return self.times * self.burst.rates(at)
        if self.constant is not None:
            return np.full(seconds, self.times * self.constant)
        found = self._read()
        if self.arrivals is not None and found is not None:
            counts = np.zeros(seconds)
            counts[: len(found[1])] = found[1][:seconds]
            return self.times * counts
        when, rate = zip(*self.points, strict=True) if self.points is not None else found or ((), ())
        return self.times * np.interp(at, when, rate)


class Traffic:
    """A forecast. Forecast requests come independently of each other (Poisson); recorded ones as they were recorded."""

    def __init__(self, sources: Sequence[Source], seconds: int) -> None:
        self.seconds = seconds
        recorded = [source.rates(seconds) for source in sources if source.arrivals is not None]
        forecast = [source.rates(seconds) for source in sources if source.arrivals is None]
        self._recorded = np.sum(recorded, axis=0) if recorded else np.zeros(seconds)
        self._forecast = np.sum(forecast, axis=0) if forecast else np.zeros(seconds)
        self.rates: Floats = self._recorded + self._forecast

    def draw(self, rng: np.random.Generator) -> Floats:
        """Requests in each second."""
        return self._recorded + rng.poisson(self._forecast)

    def peak(self, window_s: int = 60) -> float:
        """The mean rate of the busiest minute."""
        whole = np.concatenate([[0.0], np.cumsum(self.rates)])
        window = min(window_s, self.seconds)
        return float(np.max(whole[window:] - whole[:-window]) / window)


def _counts(path: Path) -> list[float]:
    try:
        return [_rate(count) for count in path.read_text().split()]
    except ValueError as error:
        raise ValueError(f"{path} is no list of requests in each second: {error}") from error


def _points_of(path: Path) -> tuple[list[float], list[float]]:
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        if missing := set(COLUMNS) - set(rows.fieldnames or ()):
            found = ", ".join(rows.fieldnames or ()) or "nothing"
            raise ValueError(f"{path} has no column {' and no column '.join(sorted(missing))}; its first line: {found}")
        try:
            points = [(float(row[COLUMNS[0]]), _rate(row[COLUMNS[1]])) for row in rows]
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {rows.line_num}: {error}") from error
    _ascending([when for when, _ in points])
    return [when for when, _ in points], [rate for _, rate in points]


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 <= rate < math.inf:
        raise ValueError(f"{text} is no number of requests")
    return rate


def _ascending(times: Sequence[float]) -> None:
    for before, after in pairwise(times):
        if after <= before:
            raise ValueError(f"times must rise: {after:g} s comes after {before:g} s")
    if not times:
        raise ValueError("there is no point in it")
