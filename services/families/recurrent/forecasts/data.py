"""Owns the series that a forecaster learns from and those that it never sees, and windows of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from services.families.recurrent.forecasts.scaling import ScaledSeries, scale_series
from services.training.series_data import (
    Part,
    Record,
    co2,
    equipment,
    read_columns,
    regular,
    sea_temperature,
    statsmodels_columns,
    sunspots,
)

UNSEEN = ("airline", "seatbelts", "nile", "lynx", "sf_temps")  # never trained on
LEAST_CONTEXT = 24  # values that a window shows at least
_QUARTERLY = ("realgdp", "realcons", "realinv", "realgovt", "realdpi", "cpi", "m1", "tbilrate", "unemp", "infl")
_CHANGES = ("Consumption", "Income", "Production", "Savings", "Unemployment")
_JOBS = (
    "mining_and_logging",
    "construction",
    "durable_goods",
    "nondurable_goods",
    "wholesale_trade",
    "retail_trade",
    "utilities",
    "information",
    "leisure_and_hospitality",
    "government",
    "nonfarm_change",
)


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What was observed and what followed, float64, and how many values a season has."""

    values: Tensor
    later: Tensor
    season: int

    def scaled(self) -> ScaledSeries:
        return scale_series(self.values, self.season)


def season_of(record: Record) -> int:
    return max(1, round(record.season))


def ahead_of(record: Record) -> int:
    """How many values a window of a series is told: a season where it has one, and 8 at least."""
    return max(8, season_of(record))


def held_out_windows(record: Record, count: int, longest: int) -> list[Window]:
    """At most `count` windows, evenly spaced: what they tell lies in the held-out part, of unseen series anywhere.

    Each is shown all that came before, at most `longest` values.
    """
    ahead = ahead_of(record)
    part = record.part("held_out") if record.name not in UNSEEN else range(len(record.values))
    least = max(LEAST_CONTEXT, 2 * season_of(record))
    starts = range(max(part.start, least), part.stop - ahead + 1)
    chosen = sorted({starts[i * (len(starts) - 1) // max(1, count - 1)] for i in range(count)})
    return [window_at(record, start, ahead, longest) for start in chosen]


def window_at(record: Record, start: int, ahead: int, longest: int) -> Window:
    """What is told begins at `start`."""
    observed = record.values[max(0, start - longest) : start]
    return Window(observed, record.values[start : start + ahead], season_of(record))


def windows_of(record: Record, part: Part, count: int, longest: int) -> list[Window]:
    """At most `count` windows that tell values of a part; none where it is too short."""
    ahead = min(ahead_of(record), len(record.part(part)))
    starts = range(max(record.part(part).start, LEAST_CONTEXT), record.part(part).stop - ahead + 1)
    return [window_at(record, start, ahead, longest) for start in starts[:: max(1, len(starts) // count)][:count]]


def read_packages(packages: Mapping[str, Path]) -> list[Record]:
    """All series of the unpacked wheels of statsmodels, sktime and vega-datasets; weeks of CO2 that lack are linear."""
    statsmodels, sktime, vega = (packages[name] for name in ("statsmodels", "sktime", "vega-datasets"))
    return [*_of_statsmodels(statsmodels), *_of_sktime(sktime), *_of_vega(vega)]


def _of_statsmodels(package: Path) -> list[Record]:
    """Macrodata are seasonally adjusted, as Uschange and us-employment are: they have no season."""
    macro = statsmodels_columns(package, "macrodata")
    weekly = co2(package)
    weeks = torch.arange(int(weekly.times[-1]) + 1).double()
    filled = torch.from_numpy(np.interp(weeks.numpy(), weekly.times.numpy(), weekly.values.numpy()))
    return [
        sunspots(package),
        regular("co2", filled, 52.0),
        sea_temperature(package),
        equipment(package),
        regular("nile", statsmodels_columns(package, "nile")["volume"]),
        *(regular(f"macro_{name}", macro[name]) for name in _QUARTERLY),
    ]


def _of_sktime(package: Path) -> list[Record]:
    def column(name: str, column: str) -> Sequence[str]:
        return read_columns(package / "sktime" / "datasets" / "data" / name / f"{name}.csv")[column]

    return [
        regular("airline", column("Airline", "Passengers"), 12.0),
        regular("seatbelts", column("seatbelts", "KSI"), 12.0),
        regular("lynx", column("Lynx", "0"), 10.0),
        regular("solar", column("solar", "solar_gen"), 48.0),
        *(regular(f"us_{name.lower()}", column("Uschange", name)) for name in _CHANGES),
    ]


def _of_vega(package: Path) -> list[Record]:
    def columns(name: str) -> Mapping[str, list[str]]:
        return read_columns(package / "vega_datasets" / "_data" / f"{name}.csv")

    weather, jobs = columns("seattle-weather"), columns("us-employment")
    return [
        regular("seattle_temps", columns("seattle-temps")["temp"], 24.0),
        regular("sf_temps", columns("sf-temps")["temp"], 24.0),
        *(regular(f"seattle_{name}", weather[name], 7.0) for name in ("temp_max", "temp_min", "wind")),
        *(regular(f"jobs_{name}", jobs[name]) for name in _JOBS),
    ]
