"""What forecasts are measured by, where series are cut, and pictures of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from services.training.series_data import read_records, regular, write_records
from services.training.series_figures import (
    crps,
    gaussian_crps,
    seasonal_error,
    seasonal_naive,
    seasonal_naive_deviation,
)
from services.training.series_sheets import Panel, series_sheet


def test_the_score_of_sorted_draws_is_that_of_all_pairs() -> None:
    draws = torch.randn(2, 30, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values = torch.tensor([[0.0, 1.0, -2.0], [0.5, 0.1, 3.0]]).double()
    pairs = (draws[:, :, None] - draws[:, None]).abs().mean((1, 2)) / 2
    expected = (draws - values[:, None]).abs().mean(1) - pairs
    assert torch.allclose(crps(draws, values), expected)
    assert torch.allclose(crps(draws[:, :1], values), (draws[:, 0] - values).abs())


def test_the_score_of_a_gaussian_is_that_of_many_draws_of_it() -> None:
    mean, deviation, values = (
        torch.tensor([[0.0, 1.0, -2.0]]),
        torch.tensor([[1.0, 0.5, 3.0]]),
        torch.tensor([[0.7, 1.0, 4.0]]),
    )
    draws = mean[:, None] + deviation[:, None] * torch.randn(1, 20_000, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(gaussian_crps(mean, deviation, values), crps(draws, values), atol=0.02)
    certain = gaussian_crps(mean, torch.full_like(mean, 1e-9), values)
    assert torch.allclose(certain, (values - mean).abs(), atol=1e-6)


def test_seasonal_naive_repeats_the_last_season_and_is_less_sure_of_each() -> None:
    values = torch.tensor([1.0, 5.0, 2.0, 7.0, 4.0, 8.0]).double()
    assert seasonal_naive(values, 2, 5).tolist() == [4, 8, 4, 8, 4]
    assert seasonal_naive(values, 1, 2).tolist() == [8, 8]
    changes = torch.tensor([1.0, 2.0, 2.0, 1.0]).double()
    sigma = changes.square().mean().sqrt().item()
    assert seasonal_naive_deviation(values, 2, 5).tolist() == pytest.approx([sigma * k**0.5 for k in (1, 1, 2, 2, 3)])
    assert seasonal_error(values, 2) == pytest.approx(1.5)


def test_parts_of_a_series_follow_one_another_and_survive_their_file(tmp_path: Path) -> None:
    write_records(tmp_path, [regular("line", [float(i) for i in range(50)], 7.0)])
    (record,) = read_records(tmp_path)
    assert (record.name, record.season, record.values.tolist()) == ("line", 7.0, list(range(50)))
    parts = [record.part(part) for part in ("training", "validation", "held_out")]
    assert [i for part in parts for i in part] == list(range(50))
    assert len(parts[2]) == 10


def test_a_sheet_shows_two_panels_a_row() -> None:
    at = torch.arange(6).double()
    panel = Panel("a", at[:4], at[:4], at[4:], at[4:], at[4:] + torch.randn(9, 2).double())
    one, three = series_sheet([panel]), series_sheet([panel] * 3)
    assert three.height == 2 * one.height
    assert len(one.getcolors() or ()) > 3  # band, line and points
