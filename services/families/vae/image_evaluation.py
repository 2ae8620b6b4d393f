"""Owns the measuring of a published autoencoder of images: distances, classes, bits, errors, strangers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from services.families.vae.image_bulk import SCORED_EVERY, bits, draw_classes, load_vae, reconstruct, scores
from services.families.vae.image_model import ImageVae
from services.families.vae.image_sheets import class_sheet, interpolation_sheet, reconstruction_sheet, truncation_sheet
from services.training.held_out import read_held_out
from services.training.image_data import ImageSet, Split
from services.training.image_figures import class_figures, distance_note, sample_figures
from services.training.judge import train_judge
from services.training.recipe import Evaluation, Figure
from services.training.separation import auroc
from shared.config.vae import SAMPLES

_BITS_NOTE = (
    "Bits per dimension are of 8-bit numbers, three a pixel: the likelihood is that of the levels themselves, so that "
    "nothing is dequantised, and images are scored over all classes. They are bounds: the truth is not above them."
)

_STRANGERS_NOTE = (
    "A likelihood is no test of belonging: plain images are likelier than what was trained on, of whatever they are "
    "(Nalisnick 2019, arXiv:1810.09136). Thin digits on white ground show it. How well an image comes back, the "
    "`error` of `/v1/reconstructions`, tells strangers better."
)


def evaluate_vae(weights: Path, split: Split, strangers: Mapping[str, Tensor]) -> Evaluation:
    """Every figure and sheet of a folder of weights; two minutes on a core.

    `strangers`: images uint8 of the same shape that are none of the kind, by what they are.
    """
    vae = load_vae(weights)
    sample = read_held_out(weights, classes=len(vae.config.classes), channels=vae.config.channels)

    def draw(classes: Tensor) -> Tensor:
        return draw_classes(vae, classes)

    figures = [
        *class_figures(draw, train_judge(split.train), split),
        *sample_figures(draw, sample),
        sample_bits(vae, sample),
        *_bits_figures(vae, split),
        _reconstruction_figure(vae, split),
        _nearest_figure(vae, split),
        *_stranger_figures(vae, split, strangers),
    ]
    return Evaluation(figures, _sheets(vae, split.held_out), [distance_note(split), _BITS_NOTE, _STRANGERS_NOTE])


def sample_bits(vae: ImageVae, sample: ImageSet) -> Figure:
    """Of the images that lie beside the weights."""
    return Figure(
        "sample_bits_per_dimension",
        bits(vae, scores(vae, sample.images)),
        "lower",
        tolerance=0.02,
        baseline=8.0,
        baseline_name="all images alike",
        meaning="of the committed sample of held-out images, by the ELBO",
    )


def _bits_figures(vae: ImageVae, split: Split) -> Iterator[Figure]:
    held_out = split.held_out.images
    by_elbo = bits(vae, scores(vae, held_out))
    yield Figure(
        "bits_per_dimension",
        by_elbo,
        "lower",
        tolerance=0.02,
        baseline=histogram_bits(split),
        baseline_name="a histogram of each number",
        meaning=f"of held-out images, by the ELBO of {SAMPLES['elbo']} draws",
    )
    yield Figure(
        "bits_per_dimension_of_training_images",
        bits(vae, scores(vae, split.train.images[::SCORED_EVERY])),
        "lower",
        tolerance=0.02,
        meaning="the same of every third image that it was trained on",
    )
    yield Figure(
        "bits_per_dimension_importance_weighted",
        bits(vae, scores(vae, held_out, "importance_weighted_bound")),
        "lower",
        tolerance=0.02,
        baseline=by_elbo,
        baseline_name="the ELBO",
        meaning=f"of held-out images, by the importance-weighted bound of {SAMPLES['importance_weighted_bound']} draws",
    )


def histogram_bits(split: Split) -> float:
    """Bits per number where each has a distribution of its own: its levels in training images, each counted once more.

    What is left to gain beyond it is in how the numbers of an image hang together.
    """
    train, held_out = (part.images.flatten(1).long() for part in (split.train, split.held_out))  # (N, D)
    counts = torch.ones(train.shape[1], 256, dtype=torch.float64)
    counts.scatter_add_(1, train.T, torch.ones_like(train.T, dtype=torch.float64))
    mass = counts / counts.sum(1, keepdim=True)
    return -float(mass.gather(1, held_out.T).log().mean()) / math.log(2)


def _reconstruction_figure(vae: ImageVae, split: Split) -> Figure:
    held_out = split.held_out
    return Figure(
        "reconstruction_error",
        _error(reconstruct(vae, held_out.images), held_out.units()),
        "lower",
        tolerance=0.001,
        baseline=_error(split.train.units().mean(0, keepdim=True), held_out.units()),
        baseline_name="the mean training image",
        meaning="mean squared error of held-out images as they come back from their latents, numbers being in [0, 1]",
    )


def _nearest_figure(vae: ImageVae, split: Split) -> Figure:
    """Both sides are as soft as the decoder's pictures are, and of the same classes."""
    held_out, known = split.held_out, split.train.units()
    return Figure(
        "nearest_training_image",
        _nearest(draw_classes(vae, held_out.classes), known),
        "higher",
        tolerance=0.005,
        baseline=_nearest(reconstruct(vae, held_out.images), known),
        baseline_name="held-out images, reconstructed",
        meaning="median distance of a drawn image to the training image nearest to it (root mean square of numbers in "
        "[0, 1]): far below the baseline would be copying",
    )


def _nearest(images: Tensor, known: Tensor) -> float:
    a, b = (each.flatten(1) / 2 for each in (images, known))
    return float((torch.cdist(a, b).min(dim=1).values / a.shape[1] ** 0.5).median())


def _error(drawn: Tensor, given: Tensor) -> float:
    return float(((drawn - given) / 2).square().mean())


def _stranger_figures(vae: ImageVae, split: Split, strangers: Mapping[str, Tensor]) -> Iterator[Figure]:
    known, mean = split.held_out.images, split.train.images.double().mean(0)
    noise = torch.randint(0, 256, known.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    everyone = {"noise": noise, **strangers}
    near = {name: auroc(_nearness(known, mean), _nearness(images, mean)) for name, images in everyone.items()}
    ways: Sequence[tuple[str, Callable[[Tensor], Tensor], str]] = (
        ("auroc", partial(scores, vae), "the ELBO finds a held-out image likelier than"),
        ("reconstruction_auroc", partial(_likeness, vae), "a held-out image comes back more alike than"),
    )
    for way, score, says in ways:
        ours = score(known)
        for name, images in everyone.items():
            yield Figure(
                f"{way}_against_{name.replace(' ', '_')}",
                auroc(ours, score(images)),
                "higher",
                tolerance=0.02,
                baseline=near[name],
                baseline_name="distance to the mean training image",
                meaning=f"how often {says} one of {name}",
            )


def _nearness(images: Tensor, mean: Tensor) -> Tensor:
    """(N,): the negative distance to a mean (C, H, W)."""
    return -(images.double() - mean).flatten(1).norm(dim=1)


def _likeness(vae: ImageVae, images: Tensor) -> Tensor:
    """(N,): the negative distance of an image to its reconstruction."""
    units = images.float() / 127.5 - 1
    return -(reconstruct(vae, images) - units).flatten(1).norm(dim=1)


def _sheets(vae: ImageVae, held_out: ImageSet) -> Mapping[str, Image.Image]:
    return {
        "classes": class_sheet(vae, columns=12),
        "truncation": truncation_sheet(vae, columns=12, scales=(0.25, 0.5, 0.75, 1.0, 1.25)),
        "reconstructions": reconstruction_sheet(vae, held_out, columns=12, rows=4),
        "interpolations": interpolation_sheet(vae, held_out, columns=12, rows=8),
    }
