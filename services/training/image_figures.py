"""Owns figures of models that draw images of classes: distances, what a judge sees, the committed sample."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from services.training.distances import FeatureStatistics, frechet_distance
from services.training.held_out import DrawClasses, sample_scores
from services.training.image_data import ImageSet, Split
from services.training.judge import Judge
from services.training.recipe import Figure

# The classifier is trained at every evaluation, and processors round unlike: its features spread by half as much again.
_OTHER_FEATURES = 0.75
_SPACE = "in the 64 features of a small classifier trained on the real training images"


def class_figures(draw: DrawClasses, judge: Judge, split: Split) -> Iterator[Figure]:
    """How far drawn images are from held-out ones, and whether they show the class that was asked for."""
    real = split.held_out
    asked, drawn = real.classes, draw(real.classes)
    features, logits = judge.judge(drawn)
    held_out = _statistics(judge, real.units())
    distance = frechet_distance(FeatureStatistics.of(features), held_out)
    of_training = frechet_distance(_statistics(judge, _like(split.train, real).units()), held_out)
    yield Figure(
        "frechet_distance",
        distance,
        "lower",
        tolerance=max(3.0, _OTHER_FEATURES * distance),
        baseline=frechet_distance(_statistics(judge, _noise(real)), held_out),
        baseline_name="noise images",
        meaning=f"to held-out images {_SPACE}",
    )
    yield Figure(
        "frechet_distance_of_training_images",
        of_training,
        "lower",
        tolerance=max(3.0, _OTHER_FEATURES * of_training),
        meaning="the same of as many real training images, which the classifier knows by heart: no lower bound",
    )
    chance = 1 / (int(real.classes.max()) + 1)
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


def sample_figures(draw: DrawClasses, sample: ImageSet) -> Iterator[Figure]:
    """The same of the sample that lies beside the weights, without a judge."""
    scores = sample_scores(draw, sample)
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
        baseline=1 / (int(sample.classes.max()) + 1),
        baseline_name="chance",
        meaning="how often the nearest image of that sample, by pixels, has the class that was asked for",
    )


def distance_note(split: Split) -> str:
    return (
        f"Frechet distances compare {len(split.held_out):,} images with the {len(split.held_out):,} held-out ones, "
        f"{_SPACE}; they compare with each other, not with distances in other feature spaces such as Inception's."
    )


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
