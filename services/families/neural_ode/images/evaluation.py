"""Owns the measuring of a published flow of images: what it draws, its likelihoods, the errors of both, sheets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from services.families.neural_ode.images.drawing import Solver, draw_classes, likelihoods, load_flow
from services.families.neural_ode.images.matching import FixedDraws
from services.families.neural_ode.images.model import VelocityField
from services.families.neural_ode.images.pixels import bits_per_dimension, log_volume, to_space
from services.families.neural_ode.images.sheets import class_sheet, interpolation_sheet, steps_sheet
from services.nn.percentiles import write_known
from services.training.held_out import read_held_out
from services.training.image_data import ImageSet, Split
from services.training.image_figures import class_figures, distance_note
from services.training.judge import train_judge
from services.training.recipe import Evaluation, Figure

DRAWING = Solver("midpoint", 10)  # as served
SCORING = Solver("midpoint", 16)
_SCORED = 80  # images, of each part of the data
_COMPARED = 16  # of them, for the errors of an estimate


def evaluate_flow(weights: Path, split: Split) -> Evaluation:
    """Every figure and sheet of a folder of weights; some two minutes on a core."""
    model = load_flow(weights)
    judge = train_judge(split.train)

    def draw(classes: Tensor) -> Tensor:
        return draw_classes(model, classes, DRAWING)

    figures = [*class_figures(draw, judge, split), *_likelihood_figures(model, split), sample_figure(model, weights)]
    sheets = {
        "classes": class_sheet(model, columns=12),
        "interpolations": interpolation_sheet(model, columns=12, rows=4),
        "steps": steps_sheet(model, columns=12, steps=(1, 2, 4, 8, 16)),
    }
    return Evaluation(figures, sheets, [distance_note(split), _LIKELIHOOD_NOTE, _SIZE_NOTE])


def write_likelihoods(model: VelocityField, split: Split, folder: Path) -> None:
    """scores.json: what percentiles are taken from, of so many images of each part."""
    training, held_out = (
        likelihoods(model, images.images[_spread(images)], SCORING) for images in (split.train, split.held_out)
    )
    write_known(folder, {"log_likelihood": (training, held_out)})


def sample_figure(model: VelocityField, weights: Path) -> Figure:
    """What anyone can measure in a second, without the training data."""
    config = model.config
    sample = read_held_out(weights, classes=len(config.classes), channels=config.channels)
    fixed = FixedDraws.of(sample, len(sample))
    return Figure(
        "sample_flow_loss",
        fixed.loss(model),
        "lower",
        tolerance=0.002,
        baseline=(fixed.data - fixed.noise).square().mean().item(),
        baseline_name="a field of zeros",
        meaning="mean squared error of the velocity, on the committed sample of held-out images",
    )


_LIKELIHOOD_NOTE = (
    f"Likelihoods are of {_SCORED} held-out images, {SCORING.steps} steps of the {SCORING.method} method back in time, "
    "by one dequantisation and one Hutchinson probe each: an unbiased estimate (but for the solver's error) of a lower "
    "bound of log P. 8 bits a dimension are what equal odds of all 256 grey values take."
)
_SIZE_NOTE = "Only 28x28 pixels are drawn: the field knows its patches by place, and was trained at no other size."


def _likelihood_figures(model: VelocityField, split: Split) -> Iterator[Figure]:
    rows = _spread(split.held_out)
    levels, classes = split.held_out.images[rows], split.held_out.classes[rows]
    dimensions = model.config.dimensions

    def bits(nats: Tensor) -> float:
        return bits_per_dimension(nats.mean().item(), dimensions)

    single = likelihoods(model, levels, SCORING)
    yield Figure(
        "bits_per_dimension",
        bits(single),
        "lower",
        tolerance=0.03,
        baseline=bits(_gaussian(split.train, levels)),
        baseline_name="a Gaussian of each pixel",
        meaning="of held-out images over all classes; the baseline is fitted in the same space, after the logit",
    )
    yield Figure(
        "bits_per_dimension_given_class",
        bits(likelihoods(model, levels, SCORING, classes=classes)),
        "lower",
        tolerance=0.03,
        meaning="the same images, each given its class",
    )
    few = levels[:_COMPARED]
    draws = torch.stack([likelihoods(model, few, SCORING, seed=seed) for seed in range(3)])
    yield Figure(
        "standard_deviation_of_an_estimate",
        draws.std(0).square().mean().sqrt().item(),
        "lower",
        tolerance=5.0,
        meaning="in nats, of one draw; that of a score is smaller by the root of its samples",
    )
    finer = likelihoods(model, few, Solver(SCORING.method, 2 * SCORING.steps), seed=0)
    yield Figure(
        "solver_error",
        math.fabs(bits(finer) - bits(draws[0])),
        "lower",
        tolerance=0.02,
        meaning="how many bits a dimension twice the steps move the mean, with the same draws",
    )


def _gaussian(train: ImageSet, levels: Tensor) -> Tensor:
    """log-likelihoods (N,) of independent Gaussians, a pixel each, fitted to dequantised training images."""
    draws = torch.Generator().manual_seed(0)
    known = to_space(train.images, torch.rand(train.images.shape, generator=draws)).flatten(1)
    rest = torch.rand(levels.shape, generator=draws)
    fitted = torch.distributions.Normal(known.mean(0), known.std(0))
    return fitted.log_prob(to_space(levels, rest).flatten(1)).sum(1) + log_volume(levels, rest)


def _spread(images: ImageSet) -> Tensor:
    """So many rows, evenly spaced: of every class."""
    count = min(_SCORED, len(images))
    return torch.arange(count) * len(images) // count
