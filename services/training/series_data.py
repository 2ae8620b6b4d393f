"""Owns observed series as data sets: from files of unpacked packages to one file, and the parts that they are cut in.

Every series is cut in time: the first 70 % are trained on, the next 10 % validated, the last 20 % held out.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

Part = Literal["training", "validation", "held_out"]
_ENDS: Mapping[Part, tuple[float, float]] = {"training": (0.0, 0.7), "validation": (0.7, 0.8), "held_out": (0.8, 1.0)}
_FILE = "series.json"


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One series: times and values float64 (N,), and how long a season is, in the unit of its times."""

    name: str
    times: Tensor
    values: Tensor
    season: float

    def part(self, part: Part) -> range:
        """The indices of its values that belong to a part."""
        start, end = (int(share * len(self.times)) for share in _ENDS[part])
        return range(start, end)


def regular(name: str, cells: Sequence[str] | Sequence[float] | Tensor, season: float = 1.0) -> Record:
    """A series whose times are 0, 1, 2 ..."""
    return Record(name, torch.arange(len(cells)).double(), numbers(cells), season)


def write_records(folder: Path, records: Sequence[Record]) -> None:
    content = [
        {"name": each.name, "times": each.times.tolist(), "values": each.values.tolist(), "season": each.season}
        for each in records
    ]
    (folder / _FILE).write_text(json.dumps(content))


def read_records(folder: Path) -> list[Record]:
    return [
        Record(each["name"], numbers(each["times"]), numbers(each["values"]), each["season"])
        for each in json.loads((folder / _FILE).read_text())
    ]


def read_columns(path: Path) -> Mapping[str, list[str]]:
    """The cells of a CSV file with a header, by column."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    return {name: [row[i] for row in rows] for i, name in enumerate(header)}


def statsmodels_columns(package: Path, name: str) -> Mapping[str, list[str]]:
    """Of a data set of the unpacked wheel of statsmodels."""
    return read_columns(package / "statsmodels" / "datasets" / name / f"{name}.csv")


def sunspots(package: Path) -> Record:
    """A year each, 1700 to 2008."""
    years, spots = statsmodels_columns(package, "sunspots").values()
    return Record("sunspots", numbers(years), numbers(spots), 11.0)


def co2(package: Path) -> Record:
    """Carbon dioxide at Mauna Loa, weekly but for gaps, in weeks since the first."""
    days, values = statsmodels_columns(package, "co2").values()
    known = [(date.fromisoformat(day).toordinal(), value) for day, value in zip(days, values, strict=True) if value]
    weeks = [(day - known[0][0]) / 7 for day, _ in known]
    return Record("co2", numbers(weeks), numbers([value for _, value in known]), 365.25 / 7)


def sea_temperature(package: Path) -> Record:
    """Temperature of the sea, El Nino, in months; a row a year."""
    _, *months = statsmodels_columns(package, "elnino").values()
    return regular("elnino", [cell for year in zip(*months, strict=True) for cell in year], 12.0)


def equipment(package: Path) -> Record:
    """Turnover of electrical equipment in the euro area, in months."""
    _, values = statsmodels_columns(package, "elec_equip").values()
    return regular("elec_equip", values, 12.0)


def numbers(cells: Sequence[str] | Sequence[float] | Tensor) -> Tensor:
    """float64 of the same length."""
    return torch.tensor([float(cell) for cell in cells], dtype=torch.float64)
