"""The medical records: from the package to a table and two parts, and the sample beside weights."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from services.training.record_data import (
    ACTG175_COLUMNS,
    OUTCOME,
    SAMPLE,
    Draft,
    fit_numbers,
    read_actg175,
    read_csv,
    read_record_split,
    read_sample,
    write_csv,
    write_record_split,
    write_sample,
)
from tests.record_tables import DRAFTS, TOWNS, make_records, make_split

HEADER = (
    '"","pidnum","age","wtkg","hemo","homo","drugs","karnof","oprior","z30","zprior","preanti","race","gender","str2",'
    '"strat","symptom","treat","offtrt","cd40","cd420","cd496","r","cd80","cd820","cens","days","arms"'
)
FIRST = '"1",10056,48,89.8128,0,0,0,100,0,0,1,0,0,0,0,1,0,1,0,422,477,660,1,566,324,0,948,2'
SECOND = '"2",10059,61,49.4424,0,0,0,90,0,1,1,895,0,0,1,3,0,1,0,162,218,NA,0,392,564,1,1002,3'


def test_the_packages_file_becomes_records_of_the_columns_that_are_used(tmp_path: Path) -> None:
    folder = tmp_path / "lifelines" / "datasets"
    folder.mkdir(parents=True)
    (folder / "ACTG175.csv").write_text("\n".join([HEADER, FIRST, SECOND]) + "\n")
    first, second = read_actg175(tmp_path)
    assert list(first) == [draft.name for draft in ACTG175_COLUMNS]
    assert (first["age"], first["wtkg"], first["karnof"], first["arms"]) == (48, 89.8, 100, 2)
    assert (second["preanti"], second["strat"], second[OUTCOME]) == (895, 3, 1)
    assert {"pidnum", "zprior", "str2", "treat", "cd496", "r"}.isdisjoint(first)


def test_every_fifth_record_is_held_out_and_none_is_lost(tmp_path: Path) -> None:
    records = make_records(53)
    write_record_split(tmp_path, DRAFTS, records)
    split = read_record_split(tmp_path)
    assert split.table.records(split.held_out) == records[4::5]
    assert split.table.records(split.train) == [record for i, record in enumerate(records) if i % 5 != 4]


def test_the_same_records_make_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        make_split(tmp_path / name)
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("a", "b")]
    assert files[0] == files[1]


def test_bounds_are_of_all_records_and_quantiles_of_the_training_ones(tmp_path: Path) -> None:
    records = make_records(50)
    records[9]["age"] = 120  # held out
    write_record_split(tmp_path, DRAFTS, records)
    table = read_record_split(tmp_path).table
    age = table.numbers[0]
    assert (age.maximum, age.values[-1]) == (120, 120.5)
    oldest_trained = torch.tensor([[89.5, 1.7, 0.0]])
    assert table.to_normal(oldest_trained)[0, 0] > 1.8, "all the rest of the range is nearly empty"


def test_the_sample_holds_what_was_held_out_with_commas_in_its_texts(tmp_path: Path) -> None:
    split = make_split(tmp_path)
    beside = tmp_path / "weights"
    beside.mkdir()
    write_sample(split, beside)
    again = read_sample(split.table, beside)
    assert torch.equal(again.numbers, split.held_out.numbers)
    assert torch.equal(again.codes, split.held_out.codes)
    with (beside / SAMPLE).open(newline="") as file:
        assert {row["town"] for row in csv.DictReader(file)} == set(TOWNS)


def test_a_table_of_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    split = make_split(tmp_path)
    write_csv(tmp_path / "again.csv", split.table, split.train)
    assert torch.equal(read_csv(tmp_path / "again.csv", split.table).numbers, split.train.numbers)


@pytest.mark.parametrize(
    "train",
    [[5.0], [5.0, 5.0, 5.0], [0.0, 100.0], [0.0] * 99 + [100.0], [float(i % 7) for i in range(1000)]],
    ids=["one", "alike", "far apart", "nearly alike", "few values"],
)
def test_any_numbers_can_be_fitted(train: list[float]) -> None:
    column = fit_numbers(Draft("x", ""), train, -10, 110)
    assert (column.values[0], column.values[-1]) == (-10.5, 110.5)
    assert -5 < column.normals[0] < column.normals[-1] < 5
