"""Owns the observed series that a latent ODE learns: from an unpacked package to one file, and windows of it.

Every series is cut in time: the first 70 % are trained on, the next 10 % validated, the last 20 % held out. What a
window is to tell lies in one of these parts; what it observed may lie before.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from services.families.neural_ode.series.scaling import ScaledSeries, scale_series

Part = Literal["training", "validation", "held_out"]
_ENDS: Mapping[Part, tuple[float, float]] = {"training": (0.0, 0.7), "validation": (0.7, 0.8), "held_out": (0.8, 1.0)}
_FILE = "series.json"
SHORTEST, LONGEST = 24, 96  # observations that a window is thinned from
FEWEST = 8  # that are left of them
LEAST_AHEAD = 4  # observations that follow a window


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One series: times and values float64 (N,), and how long a season is, in the unit of its times."""

    name: str
    times: Tensor
    values: Tensor
    season: float

    def lasts(self, part: Part) -> range:
        """The indices at which a window of this part may end."""
        start, end = (int(share * len(self.times)) for share in _ENDS[part])
        return range(max(start, SHORTEST) - 1, end - LEAST_AHEAD)

    def end(self, part: Part) -> int:
        return int(_ENDS[part][1] * len(self.times))


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What was observed, and what followed; all float64."""

    times: Tensor
    values: Tensor
    later_times: Tensor
    later_values: Tensor

    def scaled(self) -> ScaledSeries:
        return scale_series(self.times.tolist(), self.values.tolist())


def draw_window(record: Record, last: int, part: Part, horizon: float, draws: torch.Generator) -> Window:
    """A window that ends at index `last`: of a random length, thinned at random, and all that follows in the part.

    It is told at most `horizon` mean intervals ahead.
    """
    length = int(torch.randint(min(SHORTEST, last), min(LONGEST, last) + 1, (1,), generator=draws))
    share = 0.4 + 0.6 * torch.rand(1, generator=draws)
    kept = torch.rand(length, generator=draws) < share
    kept[:: max(1, length // FEWEST)] = True
    rows = torch.arange(last - length + 1, last + 1)[kept | (torch.arange(length) == length - 1)]
    times = record.times[rows]
    gap = (times[-1] - times[0]) / (len(times) - 1)
    later = torch.arange(last + 1, record.end(part))
    later = later[record.times[later] <= times[-1] + horizon * gap]
    return Window(times, record.values[rows], record.times[later], record.values[later])


def held_out_windows(record: Record, count: int, horizon: float) -> list[Window]:
    """`count` windows, evenly spaced over the held-out part, the same each time."""
    lasts = record.lasts("held_out")
    draws = torch.Generator().manual_seed(0)
    chosen = [lasts[i * len(lasts) // count] for i in range(count)]
    return [draw_window(record, last, "held_out", horizon, draws) for last in chosen]


def write_records(folder: Path, records: list[Record]) -> None:
    content = [
        {"name": each.name, "times": each.times.tolist(), "values": each.values.tolist(), "season": each.season}
        for each in records
    ]
    (folder / _FILE).write_text(json.dumps(content))


def read_records(folder: Path) -> list[Record]:
    return [
        Record(each["name"], _numbers(each["times"]), _numbers(each["values"]), each["season"])
        for each in json.loads((folder / _FILE).read_text())
    ]


def read_statsmodels(package: Path) -> list[Record]:
    """Four series of the unpacked wheel of statsmodels; observations that are missing are left out."""
    return [_sunspots(package), _co2(package), _sea(package), _equipment(package)]


def _rows(package: Path, name: str) -> list[list[str]]:
    """The cells of a data set's file without its header."""
    path = package / "statsmodels" / "datasets" / name / f"{name}.csv"
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


def _sunspots(package: Path) -> Record:
    """A year each, 1700 to 2008."""
    rows = _rows(package, "sunspots")
    return Record("sunspots", _numbers([row[0] for row in rows]), _numbers([row[1] for row in rows]), 11.0)


def _co2(package: Path) -> Record:
    """Carbon dioxide at Mauna Loa, weekly but for gaps, in weeks since the first."""
    rows = [row for row in _rows(package, "co2") if row[1]]
    days = [date.fromisoformat(row[0]).toordinal() for row in rows]
    weeks = [(day - days[0]) / 7 for day in days]
    return Record("co2", _numbers(weeks), _numbers([row[1] for row in rows]), 365.25 / 7)


def _sea(package: Path) -> Record:
    """Temperature of the sea, El Nino, in months; a row a year."""
    values = [cell for row in _rows(package, "elnino") for cell in row[1:]]
    return Record("elnino", torch.arange(len(values)).double(), _numbers(values), 12.0)


def _equipment(package: Path) -> Record:
    """Turnover of electrical equipment in the euro area, in months."""
    values = [row[1] for row in _rows(package, "elec_equip")]
    return Record("elec_equip", torch.arange(len(values)).double(), _numbers(values), 12.0)


def _numbers(cells: list[str] | list[float]) -> Tensor:
    return torch.tensor([float(cell) for cell in cells], dtype=torch.float64)
