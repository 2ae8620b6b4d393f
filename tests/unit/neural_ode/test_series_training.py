"""Windows of series, the loss of drawn paths, a training in small, and the measuring beside naive forecasts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from services.families.neural_ode.series import evaluation, training
from services.families.neural_ode.series.data import (
    FEWEST,
    Window,
    draw_window,
    held_out_windows,
    lasts_of,
    read_statsmodels,
)
from services.families.neural_ode.series.evaluation import evaluate_latent_ode
from services.families.neural_ode.series.forecasting import Batch, decoded_paths, negative_log_likelihood
from services.families.neural_ode.series.held_out import SAMPLE, read_windows, write_windows
from services.families.neural_ode.series.model import LatentOde
from services.families.neural_ode.series.scaling import scale_series
from services.families.neural_ode.series.training import LatentOdeTraining
from services.families.neural_ode.train import SeriesOde
from services.nn.weights import save_model
from services.training.series_data import read_records, write_records
from tests.unit.neural_ode.tiny import SERIES, make_latent_ode, make_records


def test_parts_of_a_series_follow_one_another_and_no_window_tells_of_another_part() -> None:
    for record in make_records():
        draws = torch.Generator().manual_seed(0)
        ends = {part: record.part(part).stop for part in ("training", "validation", "held_out")}
        for part, start in (("training", 0), ("validation", ends["training"]), ("held_out", ends["validation"])):
            for last in lasts_of(record, part)[:: max(1, len(lasts_of(record, part)) // 10)]:
                window = draw_window(record, last, part, 40.0, draws)
                assert len(window.times) >= FEWEST
                assert window.times[-1] == record.times[last]
                assert (window.times.diff() > 0).all()
                assert window.later_times[0] == record.times[last + 1]
                assert start <= last + 1
                assert window.later_times[-1] <= record.times[ends[part] - 1]


def test_a_window_tells_no_farther_than_the_horizon_and_is_irregular() -> None:
    record = make_records()[1]
    window = draw_window(record, 60, "training", 5.0, torch.Generator().manual_seed(3))
    gap = (window.times[-1] - window.times[0]) / (len(window.times) - 1)
    assert window.later_times[-1] - window.times[-1] <= 5 * gap
    assert len(window.times.diff().unique()) > 1


def test_held_out_windows_are_the_same_each_time_and_survive_their_file(tmp_path: Path) -> None:
    first, again = (held_out_windows(make_records()[0], 3, 40.0) for _ in range(2))
    write_windows(first, tmp_path)
    for a, b, c in zip(first, again, read_windows(tmp_path), strict=True):
        assert torch.equal(a.times, b.times)
        assert torch.allclose(a.later_values, c.later_values, atol=1e-6)
    assert (tmp_path / SAMPLE).stat().st_size < 100_000


def test_scaling_goes_there_and_back() -> None:
    scaled = scale_series([10.0, 11.0, 14.0], [5.0, 7.0, 9.0])
    assert (scaled.mean, scaled.gap, scaled.last) == (7.0, 2.0, 14.0)
    assert scaled.observations[:, 1].tolist() == [0.0, 0.5, 1.5]
    assert scaled.values_of(scaled.observations[:, 0]).tolist() == pytest.approx([5, 7, 9])
    assert scaled.times_of([16.0]) == [1.0]


def test_the_loss_is_the_mixture_s_of_the_paths_and_padding_does_not_count() -> None:
    windows = held_out_windows(make_records()[0], 2, 10.0)
    short = Window(windows[1].times, windows[1].values, windows[1].later_times[:3], windows[1].later_values[:3])
    model, losses = make_latent_ode(), []
    for group in ([short], [short, windows[0]]):
        batch = Batch.of(group)
        means, spreads = torch.zeros(len(group), 2, batch.times.shape[1]), torch.ones(())
        means[:, 1] = 1.0
        losses.append((batch, negative_log_likelihood(means, spreads.expand(means.shape), batch)))
    (batch, alone), (_, _) = losses
    normal = torch.distributions.Normal
    each = torch.stack([normal(level, 1.0).log_prob(batch.values[0]).sum() for level in (0.0, 1.0)])
    assert alone.item() == pytest.approx(-(each.logsumexp(0) - np.log(2)).item() / 3, rel=1e-5)
    padded = Batch.of([short, windows[0]])
    means, _ = decoded_paths(model, padded, 2, torch.Generator().manual_seed(0))
    assert torch.allclose(means[0, :, 3:], means[0, :, 2:3].expand(2, means.shape[2] - 3), atol=1e-5)


def test_a_short_training_learns_the_windows_that_it_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_VALIDATED", 2)
    monkeypatch.setattr(training, "_TARGETS", 4)
    run = LatentOdeTraining(SERIES.model_copy(update={"horizon": 6.0}), make_records(), 0)
    batch = run.batch(torch.arange(0, run.examples, run.examples // 8), torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(run.modules["ode"].parameters(), lr=2e-2)
    losses: list[float] = []
    for step in range(15):
        loss, _ = run.loss("forecast", run.modules, batch, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.2
    with torch.no_grad():
        assert 0 < run.validate(run.modules)["metric"] < 3
        assert run.sample(run.modules).width > 100


def test_series_of_unlike_lengths_come_equally_often() -> None:
    records = make_records()
    run = LatentOdeTraining(SERIES, records, 0)
    assert run.examples == 2 * max(len(lasts_of(record, "training")) for record in records)


def test_an_evaluation_has_every_figure_beside_its_naive_forecast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "WINDOWS", 26)
    monkeypatch.setattr(evaluation, "_PATHS", 10)
    records = make_records()
    save_model(make_latent_ode(), SERIES, tmp_path)
    write_windows(held_out_windows(records[0], 2, 10.0), tmp_path)
    found = evaluate_latent_ode(tmp_path, records)
    figures = {figure.name: figure for figure in found.figures}
    kinds = ("crps", "median_error", "coverage")
    assert set(figures) == {f"{kind}_{name}" for kind in kinds for name in ("waves", "tides")} | {"sample_crps"}
    assert all(np.isfinite(figure.value) for figure in found.figures)
    assert figures["crps_waves"].baseline_name == "the value a season ago", "of a sine nothing naive is better"
    assert figures["crps_waves"].baseline is not None
    assert figures["crps_waves"].baseline < 0.5
    assert "worse than it on waves, tides" in found.notes[0], "random weights win nothing"


def test_statsmodels_series_are_read_from_its_wheel(tmp_path: Path) -> None:
    files = {
        "sunspots": '"YEAR","SUNACTIVITY"\n1700,5\n1701,11\n',
        "co2": "date,co2\n19580329,316.1\n19580405,\n19580412,317.5\n",
        "elnino": "YEAR,JAN,FEB\n1950,23.1,24.2\n1951,24.1,25.2\n",
        "elec_equip": "DATE,X\nJan-1-1995,66.19\nFeb-1-1995,65.15\n",
    }
    for name, text in files.items():
        folder = tmp_path / "statsmodels" / "datasets" / name
        folder.mkdir(parents=True)
        (folder / f"{name}.csv").write_text(text)
    records = {record.name: record for record in read_statsmodels(tmp_path)}
    assert records["sunspots"].times.tolist() == [1700, 1701]
    assert records["co2"].times.tolist() == [0, 2]
    assert records["co2"].values.tolist() == [316.1, 317.5]
    assert records["elnino"].values.tolist() == [23.1, 24.2, 24.1, 25.2]
    assert records["elec_equip"].times.tolist() == [0, 1]
    write_records(tmp_path, list(records.values()))
    again = {record.name: record for record in read_records(tmp_path)}
    assert all(torch.equal(again[name].values, records[name].values) for name in files)


def test_the_recipe_s_weights_keep_to_their_budget(tmp_path: Path) -> None:
    recipe = SeriesOde()
    save_model(LatentOde(recipe.config), recipe.config, tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < recipe.max_bytes
