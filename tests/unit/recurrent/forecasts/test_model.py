"""Lags, features and distributions of a forecaster: what it may look at, and what it draws."""

from __future__ import annotations

import pytest
import torch

from services.families.recurrent.forecasts.model import Told, Traits, lags_of, reach
from services.families.recurrent.forecasts.scaling import scale_series
from tests.unit.recurrent.forecasts.tiny import make_forecaster, wave


def traits(*seasons: int) -> Traits:
    return Traits(torch.tensor(seasons), torch.full((len(seasons),), 0.5))


def test_lags_are_the_values_a_season_back_and_near_it() -> None:
    values = torch.arange(40.0)[None]
    at = torch.tensor([[30]])
    (lags,) = lags_of(values, at, at, torch.tensor([12])).flatten(0, 1)
    assert lags.tolist() == [29, 18, 17, 6, 19]


def test_a_lag_that_lies_before_the_series_is_its_last_value_and_the_first_has_none() -> None:
    values, at = torch.arange(1.0, 6.0)[None], torch.arange(5)[None]
    lags = lags_of(values, at, at, torch.tensor([2]))[0]
    assert lags.tolist() == [[0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [2, 1, 2, 2, 2], [3, 2, 1, 3, 3], [4, 3, 2, 1, 4]]


def test_zeros_before_a_short_history_are_never_looked_at() -> None:
    values = torch.arange(1.0, 6.0)
    padded = torch.nn.functional.pad(values, (20, 0))
    age, season = torch.tensor([[5]]), torch.tensor([4])
    ends = [lags_of(each[None], torch.tensor([[len(each)]]), age, season) for each in (values, padded)]
    assert torch.equal(*ends)


@pytest.mark.parametrize("season", [1, 4, 12])
def test_what_is_told_looks_at_no_value_that_comes_later(season: int) -> None:
    model, values = make_forecaster(), torch.tensor([wave(40)]).float() / 50
    at = torch.arange(40)[None]
    told, _ = model(lags_of(values, at, at, torch.tensor([season])), at, traits(season))
    later = values.clone()
    later[:, 25:] += 3
    other, _ = model(lags_of(later, at, at, torch.tensor([season])), at, traits(season))
    assert torch.equal(told.mean[:, :26], other.mean[:, :26])
    assert (told.mean[:, 26:] != other.mean[:, 26:]).all()


def test_reading_at_once_and_value_by_value_leave_one_state() -> None:
    model, values = make_forecaster().double(), torch.tensor([wave(30)]).double() / 50
    at, season = torch.arange(30)[None], torch.tensor([12])
    kind = Traits(season, torch.tensor([0.5]).double())
    whole = model.read(lags_of(values, at, at, season), at, kind)
    state = None
    for i in range(30):
        recent = values[:, max(0, i - reach(12)) : i]
        now, age = torch.tensor([[recent.shape[1]]]), torch.tensor([[i]])
        padded = recent if i else values[:, :1]
        state = model.read(lags_of(padded, now, age, season), age, kind, state)
    assert state is not None
    assert torch.allclose(whole[0], state[0], atol=1e-12)
    assert torch.allclose(whole[1], state[1], atol=1e-12)


def test_draws_follow_the_student_t_that_is_told() -> None:
    count = 200_000
    told = Told(torch.tensor(2.0), torch.tensor(0.5), torch.tensor(4.0))
    draws = torch.Generator().manual_seed(0)
    first, second = 1 - torch.rand((2, count), generator=draws)
    values = ((told.draw(first, second) - 2.0) / 0.5).sort().values
    # Quantiles of Student's t with 4 degrees of freedom.
    for level, expected in ((0.5, 0.0), (0.75, 0.7407), (0.9, 1.5332), (0.95, 2.1318), (0.01, -3.7469)):
        assert values[int(level * count)].item() == pytest.approx(expected, abs=0.06)


def test_scaling_goes_there_and_back_and_a_flat_series_has_a_unit() -> None:
    scaled = scale_series(wave(48), 12)
    assert scaled.values_of(scaled.values).tolist() == pytest.approx(wave(48), rel=1e-5)
    assert scaled.scaled(torch.tensor(wave(48))).tolist() == pytest.approx(scaled.values.tolist(), abs=1e-5)
    assert scaled.unit == pytest.approx(1.2 / scaled.scale, rel=1e-3)  # a season adds 1.2
    flat = scale_series([3.0] * 9, 1)
    assert (flat.scale, flat.level, flat.values.tolist()) == (1.0, 3.0, [0.0] * 9)
    assert flat.unit > 0
