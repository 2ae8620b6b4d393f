"""Owns the measuring of a published generator: distances, classes, the augmentation trial, sheets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from PIL import Image
from torch import Tensor

from services.families.gan.drawing import draw_classes, load_generator
from services.families.gan.model import Generator
from services.families.gan.sheets import class_sheet, interpolation_sheet, truncation_sheet
from services.training.held_out import read_held_out
from services.training.image_data import ImageSet, Split
from services.training.image_figures import class_figures, distance_note, sample_figures
from services.training.judge import train_judge
from services.training.recipe import Evaluation, Figure

_TRIAL_STEPS = 300
_DRAWN_PER_CLASS = 500  # in the augmentation trial


@dataclass(frozen=True, slots=True)
class AugmentationTrial:
    """A classifier has `real_per_class` real images; do drawn ones help it? Means over `seeds` classifiers."""

    real_per_class: int
    seeds: int


def evaluate_generator(weights: Path, split: Split, *, trial: AugmentationTrial | None) -> Evaluation:
    """Every figure and sheet of a folder of weights; two minutes on a core, most of them in the trial."""
    generator = load_generator(weights)
    judge = train_judge(split.train)
    sample = read_held_out(weights, classes=len(generator.config.classes), channels=generator.config.channels)

    def draw(classes: Tensor) -> Tensor:
        return draw_classes(generator, classes)[0]

    figures = [*class_figures(draw, judge, split), *sample_figures(draw, sample)]
    notes = [distance_note(split)]
    if trial is not None:
        figures.append(_trial_figure(generator, split, trial))
        notes.append(_trial_note(figures[-1], len(split.train), trial))
    return Evaluation(figures, _sheets(generator), notes)


def _trial_figure(generator: Generator, split: Split, trial: AugmentationTrial) -> Figure:
    real = split.train.of_each_class(trial.real_per_class)
    asked = torch.arange(len(generator.config.classes)).repeat_interleave(_DRAWN_PER_CLASS)
    drawn, _ = draw_classes(generator, asked, seed=1)
    extra = ImageSet(((drawn + 1) * 127.5).round().to(torch.uint8), asked)
    test = split.held_out

    def accuracy(extra: ImageSet | None) -> float:
        judges = (train_judge(real, steps=_TRIAL_STEPS, seed=seed, extra=extra) for seed in range(trial.seeds))
        return fmean(judge.accuracy(test.units(), test.classes) for judge in judges)

    return Figure(
        "augmented_accuracy",
        accuracy(extra),
        "higher",
        tolerance=0.03,
        baseline=accuracy(None),
        baseline_name=f"{trial.real_per_class} real images a class alone",
        meaning=f"held-out accuracy of a classifier trained on {trial.real_per_class} real images a class and as many "
        f"draws of generated ones in every batch, mean of {trial.seeds} seeds",
    )


def _trial_note(figure: Figure, seen: int, trial: AugmentationTrial) -> str:
    alone = figure.baseline or 0.0
    gain = 100 * (figure.value - alone)
    return (
        f"Data augmentation: with {trial.real_per_class} real images a class a classifier reaches {alone:.1%} on "
        f"held-out images; with class-balanced generated images in half of every batch, {figure.value:.1%} "
        f"({gain:+.1f} points). The generator itself was trained on {seen:,} labelled images, so this shows what its "
        f"images carry over, not that {trial.real_per_class} images a class would have been enough to train it."
    )


def _sheets(generator: Generator) -> Mapping[str, Image.Image]:
    return {
        "classes": class_sheet(generator, columns=12),
        "interpolations": interpolation_sheet(generator, columns=12, rows=8),
        "truncation": truncation_sheet(generator, columns=12, scales=(0.25, 0.5, 0.75, 1.0, 1.25)),
    }
