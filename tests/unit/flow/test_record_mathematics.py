"""The probabilities of records are right: their total, their cells, and draws that follow them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from services.families.flow.record_grid import FAR, Grid
from services.families.flow.record_model import log_mass
from services.families.flow.record_sampler import RecordPass
from services.nn.records import Table
from tests.unit.flow.tiny_records import every_record, make_record_flow, make_split, small_table


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return small_table(tmp_path_factory.mktemp("small"))


def test_the_probabilities_of_all_records_sum_to_one(table: Table) -> None:
    whole = every_record(table)
    assert len(whole) == 3 * 4 * 3 * 2
    nats = RecordPass(make_record_flow(table)).log_probabilities(whole)
    assert nats.exp().sum().item() == pytest.approx(1, abs=1e-5)
    assert nats.exp().max() < 0.9, "one record alone would make the total easy"


def test_records_are_drawn_as_often_as_their_probabilities_say(table: Table) -> None:
    flow = make_record_flow(table)
    run, whole = RecordPass(flow), every_record(table)
    expected = run.log_probabilities(whole).exp()
    z = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0))
    drawn = flow.grid.indices(run.draw(z))
    places = torch.tensor([24, 6, 2, 1])
    counts = (drawn * places).sum(1).bincount(minlength=len(whole)) / len(z)
    assert (counts - expected).abs().sum().item() / 2 < 0.05, "total variation"


def test_a_record_that_is_drawn_from_its_own_latent_comes_back(table: Table) -> None:
    flow = make_record_flow(table).double()
    whole = every_record(table)
    cells = flow.grid.indices(whole)
    assert torch.equal(flow.inverse(flow.latent(flow.grid.centres(cells).double())), cells)


def test_columns_depend_on_those_before_them_alone(table: Table) -> None:
    flow = make_record_flow(table)
    whole = flow.grid.indices(every_record(table))
    low, high = flow.grid.bounds(whole)
    nats = flow(flow.grid.centres(whole), low, high)
    first = whole[:, 0]
    for value in first.unique():
        assert nats[first == value, 0].unique().numel() == 1, "nothing comes before the first column"
    assert nats[:, 3].unique().numel() > 2, "the last one depends on others"


def test_cells_meet_without_gaps_and_their_middles_lie_within(tmp_path: Path) -> None:
    split = make_split(tmp_path)
    grid = Grid.of(split.table)
    cells = grid.indices(split.train)
    low, high = grid.bounds(cells)
    middle = grid.centres(cells)
    assert (low < middle).all()
    assert (middle < high).all()
    assert torch.equal(grid.bounds(cells.clamp(max=0))[0], torch.full_like(low, -FAR))
    for column, size in enumerate(grid.sizes):
        every = torch.zeros(size, len(grid.sizes), dtype=torch.int64)
        every[:, column] = torch.arange(size)
        low, high = (edges[:, column] for edges in grid.bounds(every))
        assert torch.equal(low[1:], high[:-1])
        assert (high > low).all()
        assert high[-1] == FAR
        assert torch.equal(grid.cells(column, grid.centres(every)[:, column]), every[:, column])


def test_cells_become_the_records_they_were_made_of(tmp_path: Path) -> None:
    split = make_split(tmp_path)
    grid = Grid.of(split.table)
    again = grid.entries(grid.indices(split.train))
    assert split.table.records(again) == split.table.records(split.train)


@pytest.mark.parametrize(("low", "high"), [(-0.5, 0.25), (1.0, 1.001), (-9.0, 9.0), (6.0, 9.0), (-9.0, -6.0)])
def test_the_mass_of_an_interval_is_that_of_the_error_function(low: float, high: float) -> None:
    """math.erfc is exact in the tails."""
    a, b = (-high, -low) if low > 0 else (low, high)
    expected = (math.erfc(-b / math.sqrt(2)) - math.erfc(-a / math.sqrt(2))) / 2
    got = log_mass(*torch.tensor([low, high], dtype=torch.float64)).item()
    assert got == pytest.approx(math.log(expected), abs=1e-6)


def test_the_mass_of_an_interval_too_narrow_to_tell_has_a_finite_logarithm_and_gradient() -> None:
    low = torch.tensor([0.3, -8.0], requires_grad=True)
    mass = log_mass(low, torch.tensor([0.3, 8.0]))
    mass.sum().backward()
    assert mass.isfinite().all()
    assert low.grad is not None
    assert low.grad.isfinite().all()
