"""Owns the measuring of a published forecaster: CRPS, MASE and coverage beside seasonal-naive, and sheets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from services.families.recurrent.forecasts.data import UNSEEN, Window, held_out_windows, season_of
from services.families.recurrent.forecasts.forecasting import drawn_paths
from services.families.recurrent.forecasts.held_out import read_windows
from services.families.recurrent.forecasts.model import ForecastConfig, ForecastLstm
from services.families.recurrent.forecasts.plots import forecast_sheet
from services.nn.weights import load_model
from services.training.recipe import Evaluation, Figure
from services.training.series_data import Record
from services.training.series_figures import (
    crps,
    gaussian_crps,
    seasonal_error,
    seasonal_naive,
    seasonal_naive_deviation,
)

WINDOWS = 20  # of each series, at most
PATHS = 100  # as served
_NAIVE = "seasonal-naive with Gaussian errors"
_SHOWN = ("airline", "seatbelts", "nile", "lynx", "sf_temps", "sunspots", "co2", "elnino", "elec_equip", "solar")
# Series of one source are told together.
_GROUPS = {"macro_": "macrodata", "us_": "uschange", "jobs_": "us_employment", "seattle_": "seattle"}


@dataclass(frozen=True, slots=True)
class Scores:
    """Means over windows and times; errors in seasonal errors of what each window was shown (those of MASE)."""

    crps: float
    naive_crps: float  # of the seasonal-naive distribution
    mase: float  # of the median
    naive_mase: float  # of the seasonal-naive value, whose CRPS as a certainty it is, too
    covered_50: float
    covered_90: float

    @classmethod
    def mean(cls, scores: Sequence[Scores]) -> Scores:
        return cls(*(sum(getattr(each, field.name) for each in scores) / len(scores) for field in fields(cls)))


def load_forecaster(folder: Path) -> ForecastLstm:
    """In float32 on the CPU, as evaluations need it whatever serves it."""
    return load_model(ForecastLstm, ForecastConfig, folder, dtype=torch.float32, device=torch.device("cpu"))


def evaluate_forecaster(weights: Path, records: Sequence[Record]) -> Evaluation:
    model = load_forecaster(weights)
    windows = {record.name: held_out_windows(record, WINDOWS, model.config.max_points) for record in records}
    scores = {name: Scores.mean([score(model, window) for window in of_record]) for name, of_record in windows.items()}
    shown = [(name, windows[name][len(windows[name]) // 2]) for name in _SHOWN if name in windows]
    sheet = forecast_sheet(model, [window for _, window in shown], [name for name, _ in shown])
    seasonal = [scores[record.name] for record in records if season_of(record) > 1 and record.name not in UNSEEN]
    meaning = "of the last fifths of those of its series that have a season, mean over series, in seasonal errors"
    of_seasons = [_crps_figure("crps_seasonal", Scores.mean(seasonal), meaning)] if seasonal else []
    figures = [*_figures(scores), *of_seasons, sample_figure(model, weights)]
    return Evaluation(figures, {"forecasts": sheet}, [_verdict(scores), _each(scores)])


def sample_figure(model: ForecastLstm, weights: Path) -> Figure:
    """What anyone can measure in seconds, without the training data."""
    scores = Scores.mean([score(model, window) for window in read_windows(weights)])
    return _crps_figure("sample_crps", scores, "on the committed held-out windows, in seasonal errors")


def score(model: ForecastLstm, window: Window) -> Scores:
    later, season, ahead = window.later, window.season, len(window.later)
    drawn = drawn_paths(model, window, PATHS)
    levels = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], dtype=torch.float64)
    lowest, low, middle, high, highest = torch.quantile(drawn, levels, dim=0)
    naive = seasonal_naive(window.values, season, ahead)
    spread = seasonal_naive_deviation(window.values, season, ahead)
    unit = seasonal_error(window.values, season)

    def share(lower: Tensor, upper: Tensor) -> float:
        return ((lower <= later) & (later <= upper)).double().mean().item()

    return Scores(
        crps=crps(drawn[None], later[None]).mean().item() / unit,
        naive_crps=gaussian_crps(naive, spread, later).mean().item() / unit,
        mase=(middle - later).abs().mean().item() / unit,
        naive_mase=(naive - later).abs().mean().item() / unit,
        covered_50=share(low, high),
        covered_90=share(lowest, highest),
    )


def _figures(scores: Mapping[str, Scores]) -> Iterator[Figure]:
    seen, unseen = _totals(scores)
    for name, total, what in (
        ("held_out", seen, "the last fifths of the series that it learnt from"),
        ("unseen", unseen, "series that it never saw"),
    ):
        yield _crps_figure(f"crps_{name}", total, f"of {what}, mean over series, in seasonal errors")
        yield Figure(
            f"mase_{name}",
            total.mase,
            "lower",
            tolerance=0.05,
            baseline=total.naive_mase,
            baseline_name="the seasonal-naive value",
            meaning=f"of the median on {what}; for a certain forecast it is the CRPS, too",
        )
        for level, covered in ((50, total.covered_50), (90, total.covered_90)):
            meaning = f"share of values of {what} in the middle {level} %: {level / 100} is right"
            yield Figure(f"coverage_{level}_{name}", covered, "higher", tolerance=0.05, meaning=meaning)
    for name, group in _grouped(scores).items():
        yield _crps_figure(f"crps_{name}", group, "never trained on" if name in UNSEEN else "of its last fifth")


def _crps_figure(name: str, scores: Scores, meaning: str) -> Figure:
    return Figure(
        name,
        scores.crps,
        "lower",
        tolerance=0.05,
        baseline=scores.naive_crps,
        baseline_name=_NAIVE,
        meaning=meaning,
    )


def _totals(scores: Mapping[str, Scores]) -> tuple[Scores, Scores]:
    seen = [each for name, each in scores.items() if name not in UNSEEN]
    return Scores.mean(seen), Scores.mean([scores[name] for name in UNSEEN if name in scores])


def _grouped(scores: Mapping[str, Scores]) -> Mapping[str, Scores]:
    groups: dict[str, list[Scores]] = {}
    for name, each in scores.items():
        group = next((group for prefix, group in _GROUPS.items() if name.startswith(prefix)), name)
        groups.setdefault(group, []).append(each)
    return {name: Scores.mean(group) for name, group in groups.items()}


def _verdict(scores: Mapping[str, Scores]) -> str:
    seen, unseen = _totals(scores)
    lost = sorted(name for name, each in scores.items() if each.crps >= each.naive_crps)

    def against(total: Scores) -> str:
        word = "beats" if total.crps < total.naive_crps else "does not beat"
        return f"{word} seasonal-naive by CRPS ({total.crps:.3f} against {total.naive_crps:.3f})"

    return (
        f"On what it never saw of its own series the model {against(seen)}; on series that it never saw it "
        f"{against(unseen)}. Seasonal-naive is given a Gaussian of its own errors in what the window shows, sigma "
        f"sqrt(k) in the k-th season ahead; where a series has no season it says the last value, so that series which "
        f"only rise, as most macroeconomic ones do, are easily told better. The model does not beat it on {len(lost)} "
        f"of {len(scores)} series: {', '.join(lost) or 'none'}."
    )


def _each(scores: Mapping[str, Scores]) -> str:
    lines = (f"{name} {each.crps:.3f} / {each.naive_crps:.3f} / {each.mase:.3f}" for name, each in scores.items())
    return f"CRPS / that of seasonal-naive / MASE, of each series, in seasonal errors: {', '.join(lines)}."
