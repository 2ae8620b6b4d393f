"""Owns the measuring of a published latent ODE: CRPS beside naive forecasts, coverage, sheets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from services.families.neural_ode.series.data import Window, held_out_windows
from services.families.neural_ode.series.forecasting import Batch, decoded_paths
from services.families.neural_ode.series.held_out import read_windows
from services.families.neural_ode.series.model import LatentOde, SeriesConfig
from services.families.neural_ode.series.plots import forecast_sheet
from services.nn.weights import load_model
from services.training.recipe import Evaluation, Figure
from services.training.series_data import Record
from services.training.series_figures import crps

WINDOWS = 40  # of each series
_PATHS = 100  # as served
_LEVEL = 0.05  # errors that differ by no larger share are called level


@dataclass(frozen=True, slots=True)
class _Scores:
    """Of one series' windows, means over all that followed, in deviations of what was observed."""

    name: str
    crps: float
    error: float  # of the median
    covered: float  # share of values between the quantiles 0.1 and 0.9
    last_value: float
    season: float


def load_latent_ode(folder: Path) -> LatentOde:
    """In float32 on the CPU, as evaluations need it whatever serves it."""
    return load_model(LatentOde, SeriesConfig, folder, dtype=torch.float32, device=torch.device("cpu"))


@torch.no_grad()
def drawn_paths(model: LatentOde, batch: Batch, seed: int = 0) -> Tensor:
    """(B, K, T): a draw of each path at each time."""
    draws = torch.Generator().manual_seed(seed)
    means, spreads = decoded_paths(model, batch, _PATHS, draws)
    return means + spreads * torch.randn(means.shape, generator=draws)


def evaluate_latent_ode(weights: Path, records: Sequence[Record]) -> Evaluation:
    model = load_latent_ode(weights)
    horizon = model.config.horizon
    windows = {record.name: held_out_windows(record, WINDOWS, horizon) for record in records}
    scores = [_scores(model, record, windows[record.name]) for record in records]
    shown = [(each, windows[record.name][i]) for record in records for i in (5, 25) for each in [record.name]]
    sheet = forecast_sheet(model, [window for _, window in shown], [name for name, _ in shown])
    return Evaluation([*_figures(scores), sample_figure(model, weights)], {"forecasts": sheet}, [_note(scores)])


def sample_figure(model: LatentOde, weights: Path) -> Figure:
    """What anyone can measure in a second, without the training data."""
    batch = Batch.of(read_windows(weights))
    return Figure(
        "sample_crps",
        _mean(crps(drawn_paths(model, batch), batch.values), batch),
        "lower",
        tolerance=0.01,
        baseline=_mean(batch.values.abs(), batch),
        baseline_name="the mean of what was observed",
        meaning="on the committed held-out windows, in deviations of what each observed",
    )


def _scores(model: LatentOde, record: Record, windows: Sequence[Window]) -> _Scores:
    batch = Batch.of(windows)
    drawn = drawn_paths(model, batch)
    low, middle, high = torch.quantile(drawn, torch.tensor([0.1, 0.5, 0.9]), dim=1)

    def naive(forecast: Callable[[Window], Tensor]) -> float:
        told = [window.scaled().scaled(forecast(window)) for window in windows]
        padded = torch.nn.utils.rnn.pad_sequence(told, batch_first=True)
        return _mean((padded - batch.values).abs(), batch)

    return _Scores(
        record.name,
        crps=_mean(crps(drawn, batch.values), batch),
        error=_mean((middle - batch.values).abs(), batch),
        covered=_mean(((low <= batch.values) & (batch.values <= high)).float(), batch),
        last_value=naive(_last_value),
        season=naive(lambda window: _a_season_ago(window, record.season)),
    )


def _mean(of: Tensor, batch: Batch) -> float:
    """Of what is (B, T), over all that followed."""
    return ((of * batch.weights).sum() / batch.weights.sum()).item()


def _last_value(window: Window) -> Tensor:
    return window.values[-1].expand(len(window.later_times))


def _a_season_ago(window: Window, season: float) -> Tensor:
    """The observation nearest to as many whole seasons before as lead back into what was observed."""
    ago = ((window.later_times - window.times[-1]) / season).ceil() * season
    nearest = (window.times[None] - (window.later_times - ago)[:, None]).abs().argmin(1)
    return window.values[nearest]


def _figures(scores: Sequence[_Scores]) -> Iterator[Figure]:
    for each in scores:
        names = {"the value a season ago": each.season, "the last value": each.last_value}
        best = min(names, key=lambda name: names[name])
        yield Figure(
            f"crps_{each.name}",
            each.crps,
            "lower",
            tolerance=0.05,
            baseline=names[best],
            baseline_name=best,
            meaning="of held-out windows, in deviations of what was observed, beside the better of two naive forecasts",
        )
        yield Figure(
            f"median_error_{each.name}",
            each.error,
            "lower",
            tolerance=0.05,
            baseline=names[best],
            baseline_name=best,
            meaning="mean absolute error of the median: what compares with a naive forecast point by point",
        )
        yield Figure(
            f"coverage_{each.name}",
            each.covered,
            "higher",
            tolerance=0.1,
            meaning="share of held-out values between the quantiles 0.1 and 0.9; 0.8 is right",
        )


def _note(scores: Sequence[_Scores]) -> str:
    lines = ", ".join(
        f"{each.name}: CRPS {each.crps:.3f}, median {each.error:.3f}, last value {each.last_value:.3f}, a season ago "
        f"{each.season:.3f}"
        for each in scores
    )
    ratios = {each.name: each.error / min(each.season, each.last_value) for each in scores}
    won = [name for name, ratio in ratios.items() if ratio < 1 - _LEVEL]
    lost = [name for name, ratio in ratios.items() if ratio > 1 + _LEVEL]
    level = [name for name in ratios if name not in (*won, *lost)]
    return (
        f"Errors in deviations of what was observed ({WINDOWS} windows of each series, thinned to irregular times): "
        f"{lines}. A naive forecast has no spread, so that its CRPS is its absolute error. By the median the model is "
        f"better than both on {_listed(won)}, level with the better one (within {_LEVEL:.0%}) on {_listed(level)}, and "
        f"worse than it on {_listed(lost)}."
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
