"""Owns the recipe of the published forecaster: data, sizes, schedule. How it is trained and measured is elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from services.families.recurrent.forecasts.data import UNSEEN, held_out_windows, read_packages
from services.families.recurrent.forecasts.evaluation import evaluate_forecaster
from services.families.recurrent.forecasts.held_out import write_windows
from services.families.recurrent.forecasts.model import ForecastConfig
from services.families.recurrent.forecasts.training import ForecastTraining
from services.nn.weights import save_model
from services.training.packages import SKTIME, STATSMODELS, VEGA_DATASETS
from services.training.recipe import Evaluation, Licence, Package, Schedule
from services.training.series_data import read_records, write_records

_SAMPLED = (*UNSEEN, "sunspots", "co2", "elnino", "elec_equip", "macro_unemp")  # that lie beside the weights
_SAMPLED_VALUES = 208


class ForecastLstmRecipe:
    """Regular series, told ahead."""

    name: str = "forecast-lstm"
    family: str = "recurrent"
    version: int = 1
    max_bytes: int = 3 * 2**20
    summary: str = (
        "Tells what may follow a regular series (hours, days, months, quarters ...) by quantiles of drawn paths.\n\n"
        "DeepAR (Salinas 2017, [arXiv:1704.04110](https://arxiv.org/abs/1704.04110)): an LSTM reads a series with its "
        "lags and its place in the season, and gives a Student-t distribution of the next value; paths are drawn value "
        "by value, each from its own past. Values are scaled by the series itself: about their recent level, not by "
        "their mean as in the paper, which leaves little to see of a season that is small beside the level. The mean "
        "of the distribution mixes five naive forecasts by weights that the LSTM gives, and adds a correction.\n\n"
        "One model for all series, trained on windows of 35 real ones, turned upside down, stretched in time, and with "
        "noise or trends added, and for two fifths on made-up ones: sines, trends, random walks and noise, drawn by a "
        "formula."
    )
    packages: Sequence[Package] = (STATSMODELS, SKTIME, VEGA_DATASETS)
    licence: Licence = Licence(
        data="statsmodels 0.14.6: sunspots, CO2, El Nino, electrical equipment, 10 columns of macrodata; sktime 1.2.0: "
        "solar, 5 columns of Uschange; vega-datasets 0.9.0: temperatures and wind of Seattle, 11 columns of "
        "us-employment; the first 70 % of each is trained on. Never trained on: Nile (statsmodels), airline, "
        "seatbelts, lynx (sktime), temperatures of San Francisco (vega-datasets)",
        data_licence="public domain; packages BSD-3-Clause and MIT",
        attribution="NOAA; C.D. Keeling and T.P. Whorf; Eurostat; Federal Reserve Bank of St. Louis; U.S. Bureau of "
        "Labor Statistics; Sheffield Solar; packaged by the developers of statsmodels, sktime and vega_datasets",
        weights="Apache-2.0",
    )
    schedule: Schedule = Schedule(
        steps=2200, batch_size=32, warmup=50, decay="cosine", ema=0.99, validate_every=250, sample_every=1000
    )
    config: ForecastConfig = ForecastConfig(
        hidden=64, layers=2, min_points=8, max_points=512, max_season=168, horizon=168
    )

    def preprocess(self, collected: Mapping[str, Path], folder: Path) -> None:
        write_records(folder, read_packages(collected))

    def build(self, data: Path, seed: int) -> ForecastTraining:
        return ForecastTraining(self.config, read_records(data), seed)

    def export(self, modules: Mapping[str, nn.Module], data: Path, folder: Path) -> None:
        """config.json, model.safetensors, and a sample of held-out windows."""
        save_model(modules["forecaster"], self.config, folder)
        records = {record.name: record for record in read_records(data)}
        windows = [window for name in _SAMPLED for window in held_out_windows(records[name], 2, _SAMPLED_VALUES)]
        write_windows(windows, folder)

    def evaluate(self, weights: Path, data: Path) -> Evaluation:
        return evaluate_forecaster(weights, read_records(data))
