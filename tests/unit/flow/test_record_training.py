"""Records by maximum likelihood, through the recipe's own parts."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image

from services.families.flow.record_bulk import draw_records, load_record_flow, score_records
from services.families.flow.record_evaluation import apart, evaluate_record_flow
from services.families.flow.record_model import RecordFlow, RecordFlowConfig
from services.families.flow.record_training import RecordTraining
from services.families.flow.tasks import METRIC
from services.families.flow.train import RecordsFlow
from services.nn.percentiles import read_known
from services.nn.weights import WEIGHTS
from services.training import record_figures
from services.training.recipe import Phase
from services.training.record_data import RecordSplit, read_record_split
from tests.unit.flow.tiny_records import make_record_data, make_split

PHASE = Phase("likelihood", ("flow",), learning_rate=1e-2)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> RecordSplit:
    return make_split(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="module")
def trained(split: RecordSplit) -> RecordFlow:
    training = RecordTraining(RecordFlowConfig(table=split.table, hidden=(24,), bins=4), split, 0, PHASE)
    flow = training.modules["flow"]
    optimizer = torch.optim.AdamW(flow.parameters(), lr=2e-2)
    for step in range(100):
        draws = torch.Generator().manual_seed(step)
        batch = training.batch(torch.randint(training.examples, (64,), generator=draws), draws)
        loss, _ = training.loss("likelihood", training.modules, batch, draws)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return cast(RecordFlow, flow.eval().requires_grad_(False))


def test_a_short_training_beats_columns_that_are_drawn_one_by_one(split: RecordSplit, trained: RecordFlow) -> None:
    assert score_records(trained, split.held_out).mean() > apart(trained, split) + 1


def test_drawn_records_keep_what_binds_their_columns(split: RecordSplit, trained: RecordFlow) -> None:
    drawn = draw_records(trained, 500)
    assert np.corrcoef(drawn.numbers.T.numpy())[0, 1] > 0.9, "weight follows age"
    kind, outcome = drawn.codes.T
    assert outcome[kind == 0].double().mean() > 0.7 > 0.3 > outcome[kind != 0].double().mean()


def test_the_same_seed_begins_with_the_same_weights(split: RecordSplit) -> None:
    config = RecordFlowConfig(table=split.table, hidden=(8,), bins=4)
    before = torch.get_rng_state()
    first, again, other = (
        RecordTraining(config, split, seed, PHASE).modules["flow"].state_dict() for seed in (1, 1, 2)
    )
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_the_recipe_builds_exports_and_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_figures, "_ROUNDS", 5)
    data, weights = tmp_path / "data", tmp_path / "weights"
    data.mkdir()
    weights.mkdir()
    make_record_data(data)
    recipe = RecordsFlow()
    training = recipe.build(data, 0)
    figures = training.validate(training.modules)
    assert figures["metric"] > 0
    assert isinstance(training.sample(training.modules), Image.Image)
    recipe.export(training.modules, data, weights)
    flow = load_record_flow(weights)
    assert set(read_known(weights, (METRIC,))) == {METRIC}
    split = read_record_split(data)
    found = evaluate_record_flow(weights, split)
    named = {figure.name: figure for figure in found.figures}
    assert named["log_likelihood"].value == pytest.approx(
        score_records(flow, read_record_split(data).held_out).mean().item()
    )
    assert {"tstr_auroc", "c2st_accuracy", "copies", "anomaly_auroc", "sample_log_likelihood"} <= named.keys()
    assert all(np.isfinite(figure.value) for figure in found.figures)
    assert (weights / WEIGHTS).stat().st_size < recipe.max_bytes
