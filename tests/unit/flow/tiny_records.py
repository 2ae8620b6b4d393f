"""A tiny flow of records with random weights, and records to train one on."""

from __future__ import annotations

from pathlib import Path

import torch

from services.families.flow.record_model import RecordFlow, RecordFlowConfig
from services.families.flow.tasks import METRIC
from services.nn.percentiles import write_known
from services.nn.records import Entries, Table
from services.nn.weights import save_model
from services.training.record_data import Draft, RecordSplit, read_record_split, write_record_split
from shared.config.flow import RecordFlowModel
from shared.schemas.items import Value

DRAFTS = (
    Draft("age", "years"),
    Draft("weight", "kg", decimals=1),
    Draft("kind", "a, b or c", ("a", "b", "c")),
    Draft("cens", "1: it happened", (0, 1)),
)


def make_records(count: int) -> list[dict[str, Value]]:
    """Weight follows age, and the outcome follows the kind."""
    draws = torch.Generator().manual_seed(0)
    records: list[dict[str, Value]] = []
    for i in range(count):
        age = 20 + int(torch.randint(40, (), generator=draws))
        kind = i % 3
        weight = round(40 + age / 2 + float(torch.randn((), generator=draws)), 1)
        seldom = bool(torch.rand((), generator=draws) < 0.1)
        records.append({"age": age, "weight": weight, "kind": "abc"[kind], "cens": int((kind == 0) != seldom)})
    return records


def make_record_data(folder: Path, count: int = 300) -> Path:
    write_record_split(folder, DRAFTS, make_records(count))
    return folder


def make_split(folder: Path) -> RecordSplit:
    return read_record_split(make_record_data(folder))


def small_table(folder: Path) -> Table:
    """Two numbers of 3 and 4 values and two categories: 72 records in all."""
    drafts = (Draft("n", ""), Draft("m", "", decimals=1), *DRAFTS[2:])
    records: list[dict[str, Value]] = [
        {"n": i % 3, "m": round(0.1 * (i % 4), 1), "kind": "abc"[i % 3], "cens": i % 2} for i in range(60)
    ]
    write_record_split(folder, drafts, records)
    return read_record_split(folder).table


def make_record_flow(table: Table, seed: int = 0) -> RecordFlow:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        flow = RecordFlow(RecordFlowConfig(table=table, hidden=(16,), bins=4))
        for parameter in flow.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return flow.eval().requires_grad_(False)


def make_record_folder(folder: Path, table: Table) -> Path:
    """A model's folder, with percentiles of likelihoods from -50 to 0 nats."""
    flow = make_record_flow(table)
    save_model(flow, flow.config, folder)
    known = torch.linspace(-50, 0, 51)
    write_known(folder, {METRIC: (known, known)})
    return folder


def tiny_record_config(folder: Path, **options: object) -> RecordFlowModel:
    entry = {"id": "tiny-records", "kind": "record", "source": f"file://{folder}", **options}
    return RecordFlowModel.model_validate(entry)


def every_record(table: Table) -> Entries:
    """All that the table can hold."""
    numbers = [
        each.minimum + each.step * torch.arange(round((each.maximum - each.minimum) / each.step) + 1).double()
        for each in table.numbers
    ]
    codes = [torch.arange(size).double() for size in table.block_sizes]
    whole = torch.cartesian_prod(*numbers, *codes)
    return Entries(whole[:, : len(numbers)], whole[:, len(numbers) :].long())
