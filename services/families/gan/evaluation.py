"""Owns the measuring of a published generator: distances, classes, the augmentation trial, sheets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from PIL import Image
from torch import Tensor

from services.families.gan.data import ImageSet, Split
from services.families.gan.distances import FeatureStatistics, frechet_distance
from services.families.gan.drawing import draw_classes
from services.families.gan.held_out import read_held_out, sample_scores
from services.families.gan.judge import Judge, train_judge
from services.families.gan.model import Generator, load_generator
from services.families.gan.sheets import class_sheet, interpolation_sheet, truncation_sheet
from services.training.recipe import Evaluation, Figure

_SPACE = "in the 64 features of a small classifier trained on the real training images"
_TRIAL_STEPS = 300
_DRAWN_PER_CLASS = 500  # in the augmentation trial


@dataclass(frozen=True, slots=True)
class AugmentationTrial:
    """A classifier has `real_per_class` real images; do drawn ones help it? Means over `seeds` classifiers."""

    real_per_class: int
    seeds: int


def evaluate_generator(weights: Path, split: Split, *, trial: AugmentationTrial | None) -> Evaluation:
    """Every figure and sheet of a folder of weights; two minutes on a core, most of them in the trial."""
    generator = load_generator(weights, dtype=torch.float32, device=torch.device("cpu"))
    judge = train_judge(split.train)
    figures = [*_distances(generator, judge, split), *_sample_figures(generator, weights)]
    notes = [_distance_note(split)]
    if trial is not None:
        figures.append(_trial_figure(generator, split, trial))
        notes.append(_trial_note(figures[-1], len(split.train), trial))
    return Evaluation(figures, _sheets(generator), notes)


def _distances(generator: Generator, judge: Judge, split: Split) -> Iterator[Figure]:
    real = split.held_out
    drawn, asked = draw_classes(generator, real.classes)
    features, logits = judge.judge(drawn)
    held_out = _statistics(judge, real.units())
    yield Figure(
        "frechet_distance",
        frechet_distance(FeatureStatistics.of(features), held_out),
        "lower",
        tolerance=3.0,
        baseline=frechet_distance(_statistics(judge, _noise(real)), held_out),
        baseline_name="noise images",
        meaning=f"to held-out images {_SPACE}",
    )
    yield Figure(
        "frechet_distance_of_training_images",
        frechet_distance(_statistics(judge, _like(split.train, real).units()), held_out),
        "lower",
        tolerance=3.0,
        meaning="the same of as many real training images, which the classifier knows by heart: no lower bound",
    )
    chance = 1 / len(generator.config.classes)
    yield Figure(
        "class_accuracy",
        (logits.argmax(1) == asked).float().mean().item(),
        "higher",
        tolerance=0.05,
        baseline=chance,
        baseline_name="chance",
        meaning="how often that classifier sees the class that was asked for",
    )
    yield Figure(
        "class_accuracy_of_held_out_images",
        judge.accuracy(real.units(), real.classes),
        "higher",
        tolerance=0.05,
        baseline=chance,
        baseline_name="chance",
        meaning="the same of real held-out images: what the classifier is worth",
    )


def _sample_figures(generator: Generator, weights: Path) -> Iterator[Figure]:
    scores = sample_scores(generator, read_held_out(weights, generator.config))
    yield Figure(
        "sample_frechet_distance",
        scores["frechet"],
        "lower",
        tolerance=0.02,
        meaning="to the committed sample of held-out images, images averaged to 4x4 pixels",
    )
    yield Figure(
        "sample_neighbour_accuracy",
        scores["neighbour"],
        "higher",
        tolerance=0.02,
        baseline=1 / len(generator.config.classes),
        baseline_name="chance",
        meaning="how often the nearest image of that sample, by pixels, has the class that was asked for",
    )


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


def _distance_note(split: Split) -> str:
    return (
        f"Frechet distances compare {len(split.held_out):,} images with the {len(split.held_out):,} held-out ones, "
        f"{_SPACE}; they compare with each other, not with distances in other feature spaces such as Inception's."
    )


def _sheets(generator: Generator) -> Mapping[str, Image.Image]:
    return {
        "classes": class_sheet(generator, columns=12),
        "interpolations": interpolation_sheet(generator, columns=12, rows=8),
        "truncation": truncation_sheet(generator, columns=12, scales=(0.25, 0.5, 0.75, 1.0, 1.25)),
    }


def _statistics(judge: Judge, images: Tensor) -> FeatureStatistics:
    return FeatureStatistics.of(judge.judge(images)[0])


def _noise(real: ImageSet) -> Tensor:
    """Uniform noise in [-1, 1], as many and as large as the real images."""
    return torch.rand(real.images.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _like(images: ImageSet, other: ImageSet) -> ImageSet:
    """As many images of each class as `other` has, where there are so many."""
    wanted = other.classes.bincount().tolist()
    taken = [(images.classes == each).nonzero()[:count, 0] for each, count in enumerate(wanted)]
    return images.subset(torch.cat(taken))
