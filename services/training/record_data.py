"""Owns the training data of records: from an unpacked package to a table and two parts, and back. Never sees a network.

A part is a CSV file with a header line, in the columns and values of the table.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import cast

import numpy as np

from services.nn.records import CategoryColumn, Column, Entries, NumberColumn, Table
from shared.schemas.items import Value

SAMPLE = "held_out.csv"  # beside published weights, so that anyone can measure them without the training data
OUTCOME = "cens"  # what the trial was about: whether a patient got worse
_TABLE, _TRAIN = "table.json", "train.csv"
_HELD_OUT_EVERY = 5
_NORMALS = [round(-3 + 0.2 * i, 1) for i in range(31)]  # each gets a knot
_SMOOTHING = 0.01  # share of a uniform density over the whole range: what no record shows is unlikely, not impossible
_HEAVY = 0.02  # share of records from which a single value gets knots on both its sides


@dataclass(frozen=True, slots=True)
class Draft:
    """A column before its data is seen: one of `categories`, or if there are none numbers, kept to `decimals`."""

    name: str
    description: str
    categories: tuple[str | int, ...] = ()
    decimals: int = 0


@dataclass(frozen=True, slots=True)
class RecordSplit:
    table: Table
    train: Entries
    held_out: Entries


# What a patient is known by at entry, what was given, and what became of it. Left out: the row's and the patient's
# number; `zprior`, which is 1 for all; `str2` and `treat`, which `strat` and `arms` imply; `cd496` and its indicator
# `r`, as two patients of five lack it.
ACTG175_COLUMNS: Sequence[Draft] = (
    Draft("age", "years"),
    Draft("wtkg", "weight in kg", decimals=1),
    Draft("hemo", "haemophilia: 1 yes", (0, 1)),
    Draft("homo", "homosexual activity: 1 yes", (0, 1)),
    Draft("drugs", "history of intravenous drug use: 1 yes", (0, 1)),
    Draft("karnof", "Karnofsky score: 100 is no limitation", (70, 80, 90, 100)),
    Draft("oprior", "antiretroviral therapy other than zidovudine before the trial: 1 yes", (0, 1)),
    Draft("z30", "zidovudine in the 30 days before: 1 yes", (0, 1)),
    Draft("preanti", "days of antiretroviral therapy before"),
    Draft("race", "0 white, 1 other", (0, 1)),
    Draft("gender", "0 female, 1 male", (0, 1)),
    Draft("strat", "antiretroviral history: 1 none, 2 up to 52 weeks, 3 more", (1, 2, 3)),
    Draft("symptom", "symptoms of the infection: 1 yes", (0, 1)),
    Draft("offtrt", "off treatment before 96 weeks: 1 yes", (0, 1)),
    Draft("cd40", "CD4 cells per cubic millimetre at entry"),
    Draft("cd420", "the same at 20 weeks"),
    Draft("cd80", "CD8 cells per cubic millimetre at entry"),
    Draft("cd820", "the same at 20 weeks"),
    Draft("cens", "1: CD4 fell by half, AIDS, or death; 0: none was seen", (0, 1)),
    Draft("days", "days until then, or until the patient was last seen"),
    Draft(
        "arms", "0 zidovudine, 1 zidovudine and didanosine, 2 zidovudine and zalcitabine, 3 didanosine", (0, 1, 2, 3)
    ),
)


def read_actg175(package: Path) -> list[dict[str, Value]]:
    """2,139 patients of the trial ACTG 175, in the order of the file, of the unpacked PyPI package `lifelines`."""
    with (package / "lifelines" / "datasets" / "ACTG175.csv").open(newline="") as file:
        return [{each.name: _value(row[each.name], each) for each in ACTG175_COLUMNS} for row in csv.DictReader(file)]


def write_record_split(folder: Path, drafts: Sequence[Draft], records: Sequence[Mapping[str, Value]]) -> None:
    """Hold out every fifth record, and write both parts and their table. Bounds and categories are of all records."""
    train = [record for i, record in enumerate(records) if i % _HELD_OUT_EVERY != _HELD_OUT_EVERY - 1]
    held_out = records[_HELD_OUT_EVERY - 1 :: _HELD_OUT_EVERY]
    table = Table(columns=tuple(_fitted(draft, train, records) for draft in drafts))
    (folder / _TABLE).write_text(table.model_dump_json(indent=1) + "\n")
    write_csv(folder / _TRAIN, table, table.entries(train))
    write_csv(folder / SAMPLE, table, table.entries(held_out))


def read_record_split(folder: Path) -> RecordSplit:
    table = Table.model_validate_json((folder / _TABLE).read_bytes())
    return RecordSplit(table, read_csv(folder / _TRAIN, table), read_csv(folder / SAMPLE, table))


def write_sample(split: RecordSplit, folder: Path) -> None:
    """held_out.csv: every held-out record, some 20 kB."""
    write_csv(folder / SAMPLE, split.table, split.held_out)


def read_sample(table: Table, folder: Path) -> Entries:
    """The sample that `write_sample` wrote."""
    return read_csv(folder / SAMPLE, table)


def write_csv(path: Path, table: Table, entries: Entries) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [column.name for column in table.columns], lineterminator="\n")
        writer.writeheader()
        writer.writerows(table.records(entries))


def read_csv(path: Path, table: Table) -> Entries:
    """Raises InvalidRequest for a value that is not the table's, ValueError for a number that is none."""
    with path.open(newline="") as file:
        records = [{each.name: _value(row[each.name], each) for each in table.columns} for row in csv.DictReader(file)]
    return table.entries(records)


def fit_numbers(draft: Draft, train: Sequence[float], minimum: float, maximum: float) -> NumberColumn:
    """The column whose numbers `train` become standard normal; bounds may lie beyond them.

    A number stands for its bin, one step wide, so that the distribution function is a line from edge to edge of bins.
    Knots lie at even steps of the normal, and around single values that many records share.
    """
    step = 10.0**-draft.decimals
    bins, counts = np.unique(np.rint(np.asarray(train) / step), return_counts=True)
    low, high = minimum - step / 2, maximum + step / 2
    lefts, rights = (bins - 0.5) * step, (bins + 0.5) * step
    below = np.cumsum(counts) / len(train)  # share of records up to the right edge of a bin
    edges = np.concatenate([[low], np.stack([lefts, rights], axis=1).ravel(), [high]])
    shares = np.concatenate([[0.0], np.stack([below - counts / len(train), below], axis=1).ravel(), [1.0]])
    smooth = (1 - _SMOOTHING) * shares + _SMOOTHING * (edges - low) / (high - low)
    levels = (len(train) * smooth + 0.5) / (len(train) + 1)  # never 0 or 1, which no normal number has
    heavy = counts >= _HEAVY * len(train)
    even = np.interp([NormalDist().cdf(z) for z in _NORMALS], levels, edges)
    knots = np.unique(np.round(np.concatenate([[low, high], even, lefts[heavy], rights[heavy]]), draft.decimals + 2))
    normals = [round(NormalDist().inv_cdf(level), 9) for level in np.interp(knots, edges, levels)]
    return NumberColumn(
        name=draft.name,
        type="number" if draft.decimals else "integer",
        description=draft.description,
        minimum=minimum,
        maximum=maximum,
        decimals=draft.decimals,
        values=tuple(knots.tolist()),
        normals=tuple(normals),
    )


def _fitted(draft: Draft, train: Sequence[Mapping[str, Value]], every: Sequence[Mapping[str, Value]]) -> Column:
    if draft.categories:
        return CategoryColumn(name=draft.name, description=draft.description, categories=draft.categories)
    known = _numbers(draft, every)
    return fit_numbers(draft, _numbers(draft, train), min(known), max(known))


def _numbers(draft: Draft, records: Sequence[Mapping[str, Value]]) -> list[float]:
    return [float(cast(float, record[draft.name])) for record in records]


def _value(text: str, column: Draft | Column) -> Value:
    """What a cell of a CSV file says. Raises ValueError."""
    if isinstance(column, CategoryColumn) or (isinstance(column, Draft) and column.categories):
        return next((each for each in column.categories if str(each) == text), text)
    number = round(float(text), column.decimals)
    return int(number) if column.decimals == 0 else number
