"""Owns the measuring of a published machine: likelihoods, what it draws, reconstructs and turns into features."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from services.families.boltzmann.bulk import Readings, guesses, log_likelihoods, read_all
from services.families.boltzmann.drawing import chain_sheet, class_sheet, draw_classes, filter_sheet
from services.families.boltzmann.features import Examples, feature_figures
from services.families.boltzmann.learning import base_rates
from services.families.boltzmann.model import Machine, binary, load_machine
from services.families.boltzmann.partition import anneal
from services.families.boltzmann.reading import Reader
from services.training.held_out import read_held_out
from services.training.image_data import ImageSet, Split
from services.training.image_figures import class_figures, distance_note, sample_figures
from services.training.judge import train_judge
from services.training.recipe import Evaluation, Figure
from services.training.sheets import grid

_SEEN = 300  # training images of each class whose likelihoods and features are measured
SWEEPS = 200  # of each image that is measured or shown, as serving makes them unless it is told otherwise
_NOISE = 0.1  # share of the pixels that are turned before an image is to be restored
_STOPS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def evaluate_machine(weights: Path, split: Split) -> Evaluation:
    """Every figure and sheet of a folder of weights; two minutes on a core."""
    machine = load_machine(weights, torch.device("cpu"))
    reader = Reader(machine)
    sample = read_held_out(weights, classes=len(machine.config.classes), channels=1)
    seen = split.train.of_each_class(_SEEN)
    training, held_out = (read_all(reader, binary(part.images)) for part in (seen, split.held_out))
    noisy = turned(binary(split.held_out.images))
    restored = read_all(reader, noisy).reconstructed
    draw = partial(draw_classes, machine, sweeps=SWEEPS)
    figures = [
        *likelihood_figures(machine, reader, split, (training, held_out)),
        *partition_figures(machine, reader),
        *sample_likelihood_figures(reader, sample),
        *class_figures(draw, train_judge(split.train), split),
        *sample_figures(draw, sample),
        *feature_figures(_examples(seen, training), _examples(split.held_out, held_out)),
        *restoring_figures(split.held_out, held_out, noisy, restored),
    ]
    return Evaluation(figures, _sheets(machine, split.held_out, noisy, restored), _notes(machine, split))


def likelihood_figures(
    machine: Machine, reader: Reader, split: Split, readings: tuple[Readings, Readings]
) -> Iterator[Figure]:
    """What training and held-out images are worth, in nats and by their classes."""
    what = "log-likelihood" if not machine.config.top else "lower bound of the log-likelihood"
    training, held_out = (log_likelihoods(reader, each.evidence).mean().item() for each in readings)
    count = f"{len(readings[0].evidence):,}"
    yield Figure(
        "held_out_log_likelihood",
        held_out,
        "higher",
        tolerance=0.5,
        baseline=_independent(machine, split),
        baseline_name="independent pixels of each class",
        meaning=f"mean {what} of held-out images in black and white, in nats, by the estimate of log Z",
    )
    yield Figure(
        "training_log_likelihood", training, "higher", tolerance=0.5, meaning=f"the same of {count} training images"
    )
    right = guesses(reader, readings[1].evidence) == split.held_out.classes
    yield Figure(
        "likeliest_class_accuracy",
        right.float().mean().item(),
        "higher",
        tolerance=0.01,
        baseline=1 / len(machine.config.classes),
        baseline_name="chance",
        meaning="how often a held-out image is likeliest under its own class",
    )


def partition_figures(machine: Machine, reader: Reader) -> Iterator[Figure]:
    """How sure log Z is; it is estimated a second time, from other draws."""
    yield Figure(
        "log_partition_error",
        max(machine.config.log_partition_error),
        "lower",
        tolerance=0.01,
        meaning="standard error of the estimate of log Z, of the class where it is largest, in nats",
    )
    again = anneal(machine.energy, machine.base, chains=20, temperatures=500, seed=1)
    yield Figure(
        "log_partition_gap",
        (again.value - reader.partition).abs().mean().item(),
        "lower",
        tolerance=0.2,
        meaning="how far a shorter second estimate from other draws is from it, mean over the classes, in nats",
    )


def _independent(machine: Machine, split: Split) -> float:
    """Mean log-likelihood of held-out images if pixels were independent within each class, the classes alike."""
    rates = base_rates(split.train, machine.config)[:, : machine.config.visible].double()
    visible = binary(split.held_out.images).double()
    given = visible @ rates.T - functional.softplus(rates).sum(1)  # (N, K)
    return (torch.logsumexp(given, 1) - math.log(len(rates))).mean().item()


def sample_likelihood_figures(reader: Reader, sample: ImageSet) -> Iterator[Figure]:
    """What anyone can measure again without the training data."""
    yield Figure(
        "sample_log_likelihood",
        log_likelihoods(reader, read_all(reader, binary(sample.images)).evidence).mean().item(),
        "higher",
        tolerance=0.05,
        meaning="held_out_log_likelihood of the committed sample of held-out images alone",
    )


def turned(visible: Tensor) -> Tensor:
    """bool (N, D): images with a tenth of their pixels turned, the same each time."""
    return visible ^ (torch.rand(visible.shape, generator=torch.Generator().manual_seed(0)) < _NOISE)


def restoring_figures(images: ImageSet, clean: Readings, noisy: Tensor, restored: Tensor) -> Iterator[Figure]:
    given = binary(images.images).double()
    yield Figure(
        "reconstruction_error",
        (clean.reconstructed - given).square().mean().item(),
        "lower",
        tolerance=0.001,
        meaning="mean squared error of held-out images after one pass up and down",
    )
    yield Figure(
        "denoising_error",
        (restored - given).square().mean().item(),
        "lower",
        tolerance=0.001,
        baseline=(noisy.double() - given).square().mean().item(),
        baseline_name="the noisy image",
        meaning=f"the same where {_NOISE:.0%} of the pixels were turned before, against the image as it was",
    )


def _examples(images: ImageSet, readings: Readings) -> Examples:
    return Examples(binary(images.images).double().numpy(), readings.hidden.numpy(), images.classes.numpy())


def _sheets(machine: Machine, images: ImageSet, noisy: Tensor, restored: Tensor) -> Mapping[str, Image.Image]:
    chosen = torch.arange(0, len(noisy), len(noisy) // 12)[:12]
    rows = torch.cat([binary(images.images)[chosen].double(), noisy[chosen].double(), restored[chosen]])
    side = machine.config.side
    return {
        "classes": class_sheet(machine, columns=12, sweeps=SWEEPS),
        "chains": chain_sheet(machine, list(_STOPS)),
        "filters": filter_sheet(machine, columns=16, rows=8),
        "denoising": grid(2 * rows.view(-1, 1, side, side) - 1, 12, ["held out", "noisy", "restored"]),
    }


def _notes(machine: Machine, split: Split) -> list[str]:
    shape = machine.config
    pairs = zip(shape.classes, shape.log_partition, shape.log_partition_error, strict=True)
    partition = ", ".join(f"{each.name}: {value:.2f} +- {error:.2f}" for each, value, error in pairs)
    return [
        f"log Z by annealed importance sampling (Salakhutdinov & Murray 2008), by class: {partition}.",
        "Likelihoods are of images of one bit a pixel: they compare with each other, not with bits per dimension of "
        "8-bit pixels.",
        f"Classifiers learn from {_SEEN} training images of each class. Labels took part in the machine's training, so "
        "that hidden units are no unsupervised features, as principal components are. An embedding is wide: cut to few "
        "numbers it tells less than as many principal components.",
        f"What is measured and shown are the pixels' chances to be white after {SWEEPS} sweeps; sheet `chains` shows "
        f"one chain of each class after {', '.join(map(str, _STOPS))}.",
        distance_note(split),
    ]
