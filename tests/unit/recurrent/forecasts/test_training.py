"""Windows of series, made-up ones, a training in small, and the measuring beside seasonal-naive."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from services.families.recurrent.forecasts import evaluation, plots, training
from services.families.recurrent.forecasts.augment import made_up, turned
from services.families.recurrent.forecasts.data import UNSEEN, Window, ahead_of, held_out_windows, windows_of
from services.families.recurrent.forecasts.evaluation import evaluate_forecaster, score
from services.families.recurrent.forecasts.forecasting import Batch, drawn_paths, negative_log_likelihood
from services.families.recurrent.forecasts.held_out import SAMPLE, read_windows, write_windows
from services.families.recurrent.forecasts.params import ForecastParams
from services.families.recurrent.forecasts.recipe import ForecastLstmRecipe
from services.families.recurrent.forecasts.sampler import ForecastSampler
from services.families.recurrent.forecasts.training import ForecastTraining
from services.nn.weights import save_model
from services.training.series_data import regular
from tests.contract.driver import bare_loop
from tests.unit.recurrent.forecasts.tiny import CONFIG, make_forecaster, make_records, wave


def test_a_held_out_window_tells_the_last_fifth_and_of_an_unseen_series_anything() -> None:
    waves, _, airline = make_records()
    windows = held_out_windows(waves, 5, 64)
    assert len(windows) == 5
    assert torch.equal(windows[-1].later, waves.values[-ahead_of(waves) :])
    assert torch.equal(windows[0].later[:1], waves.values[160:161])
    assert all(len(window.values) == 64 for window in windows)
    assert len(held_out_windows(airline, 1000, 64)) == len(airline.values) - ahead_of(airline) - 24 + 1
    for window in windows_of(waves, "validation", 3, 64):
        assert window.later[0] in waves.values[140:160]


def test_held_out_windows_survive_their_file(tmp_path: Path) -> None:
    windows = held_out_windows(make_records()[0], 2, 40)
    write_windows(windows, tmp_path)
    for a, b in zip(windows, read_windows(tmp_path), strict=True):
        assert torch.allclose(a.values, b.values, rtol=1e-6)
        assert torch.allclose(a.later, b.later, rtol=1e-6)
        assert a.season == b.season
    assert (tmp_path / SAMPLE).stat().st_size < 10_000


def test_made_up_series_are_finite_unlike_and_of_their_season() -> None:
    draws = torch.Generator().manual_seed(0)
    series = [made_up(96, draws) for _ in range(60)]
    assert all(len(values) == 96 and values.isfinite().all() for values, _ in series)
    assert len({season for _, season in series}) > 8
    nearer = [_apart(values, season) < _apart(values, season // 2) for values, season in series if 3 <= season <= 24]
    assert sum(nearer) > 0.6 * len(nearer)


def _apart(values: torch.Tensor, lag: int) -> float:
    return (values[lag:] - values[:-lag]).abs().mean().item()


def test_turned_windows_keep_their_season() -> None:
    values = torch.tensor(wave(120)).double()
    for seed in range(20):
        other, season = turned(values, 12, torch.Generator().manual_seed(seed))
        assert len(other) >= 80
        assert 8 <= season <= 12
        assert _apart(other, season) < _apart(other, season // 2)


def test_padding_and_first_values_do_not_count_in_the_loss() -> None:
    model = make_forecaster()
    short, long = torch.tensor(wave(20)).double(), torch.tensor(wave(50)).double()
    alone = negative_log_likelihood(model, Batch.of([(short, 16, 12)]))
    padded = Batch.of([(short, 16, 12), (long, 40, 12)])
    assert padded.weights.sum(1).tolist() == [16, 46]
    padded.weights[1] = 0
    assert negative_log_likelihood(model, padded).item() == pytest.approx(alone.item(), rel=1e-5)


def test_a_window_s_scale_knows_nothing_of_what_is_told() -> None:
    values = torch.tensor(wave(40)).double()
    other = torch.cat([values[:30], values[30:] * 100])
    one, two = (Batch.of([(each, 30, 12)]) for each in (values, other))
    assert torch.equal(one.values[:, :30], two.values[:, :30])
    assert torch.equal(one.traits.unit, two.traits.unit)


def test_measured_paths_are_distributed_as_served_ones() -> None:
    model, values = make_forecaster(), torch.tensor(wave(36)).double()
    window = Window(values, values[:6], 12)
    drawn = drawn_paths(model, window, 3000)
    params = ForecastParams(window.scaled(), tuple(range(1, 7)), tuple(map(float, range(6))), (0.1, 0.5, 0.9), 3000, 1)
    (chunk,) = bare_loop(ForecastSampler(model, 1, 2**20), params)
    served = torch.tensor(chunk.quantiles, dtype=torch.float64)
    measured = torch.quantile(drawn, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64), dim=0)
    assert ((served - measured).abs() < 0.08 * (measured[2] - measured[0])).all()


def test_a_short_training_learns_and_never_sees_what_is_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "LENGTHS", (48,))
    monkeypatch.setattr(training, "_PATHS", 5)
    monkeypatch.setattr(training, "_VALIDATED", 1)
    monkeypatch.setattr(plots, "_PATHS", 10)
    run = ForecastTraining(CONFIG, make_records(), 0)
    assert run.examples == 2 * training._PLACES
    batch = run.batch(torch.arange(24), torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(run.modules["forecaster"].parameters(), lr=2e-2)
    losses: list[float] = []
    for _ in range(12):
        loss, _ = run.loss("likelihood", run.modules, batch, torch.Generator())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.2
    with torch.no_grad():
        assert 0 < run.validate(run.modules)["metric"] < 5
        assert run.sample(run.modules).width > 100


def test_a_score_of_what_is_known_is_better_than_of_what_is_not() -> None:
    model, values = make_forecaster(), torch.tensor(wave(60)).double()
    likely, strange = (score(model, Window(values, later, 12)) for later in (values[48:] + 1.2, values[48:] + 500))
    assert likely.crps < strange.crps
    assert likely.naive_mase == pytest.approx(1)  # it misses the rise of a season, as it did before
    assert strange.covered_90 == 0
    assert 0 <= likely.covered_50 <= likely.covered_90 <= 1


def test_an_evaluation_has_every_figure_beside_seasonal_naive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "WINDOWS", 2)
    monkeypatch.setattr(evaluation, "PATHS", 10)
    records = make_records()
    save_model(make_forecaster(), CONFIG, tmp_path)
    write_windows([window for record in records for window in held_out_windows(record, 1, 60)], tmp_path)
    result = evaluate_forecaster(tmp_path, records)
    figures = {figure.name: figure for figure in result.figures}
    for name in ("held_out", "unseen", "seasonal", "waves", "tides", "airline"):
        assert figures[f"crps_{name}"].baseline is not None
    assert {"mase_unseen", "coverage_50_unseen", "coverage_90_held_out", "sample_crps"} < figures.keys()
    verdict, each = result.notes
    losing = figures["crps_unseen"].value >= (figures["crps_unseen"].baseline or 0)
    assert ("series that it never saw it does not beat" in verdict) == losing
    assert all(name in each for name in ("waves", "tides", "airline"))
    assert result.sheets["forecasts"].width > 100


def test_the_recipe_makes_records_that_export_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of made-up series under the names of the real ones: packages are not fetched by tests."""
    recipe = ForecastLstmRecipe()
    names = (*UNSEEN, "sunspots", "co2", "elnino", "elec_equip", "macro_unemp")
    records = [regular(name, wave(400), 12.0) for name in names]
    monkeypatch.setattr("services.families.recurrent.forecasts.recipe.read_packages", lambda collected: records)
    data, folder = tmp_path / "data", tmp_path / "weights"
    data.mkdir()
    folder.mkdir()
    recipe.preprocess({}, data)
    recipe.export({"forecaster": make_forecaster()}, data, folder)
    windows = read_windows(folder)
    assert len(windows) == 2 * len(names)
    assert (folder / SAMPLE).stat().st_size < 100_000
