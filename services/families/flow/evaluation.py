"""Owns the measuring of a published image flow: likelihoods, anomalies, classes, invertibility, sheets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from services.families.flow.drawing import (
    SEED,
    bits_per_dimension,
    by_class,
    dequantised,
    draw_classes,
    load_flow,
    marginal,
)
from services.families.flow.gaussian import Gaussian
from services.families.flow.model import ImageFlow, one_hot, over_classes
from services.families.flow.sheets import class_sheet, interpolation_sheet, temperature_sheet
from services.training.held_out import read_held_out
from services.training.image_data import Split
from services.training.image_figures import class_figures, distance_note, sample_figures
from services.training.judge import train_judge
from services.training.recipe import Evaluation, Figure
from services.training.separation import auroc

_UNIFORM_BITS = 8.0  # of an 8-bit pixel of which nothing is known
_INVERTED, _NOISE = 200, 200  # images
_BITS_NOTE = (
    "Likelihoods are exact densities of the flow over pixel values with uniform noise in [0, 1) added "
    "(dequantisation), so that bits per dimension compare with other models of 8-bit pixels and are an upper bound of "
    "what a code for the pixels themselves would take (Theis 2016, "
    "[arXiv:1511.01844](https://arxiv.org/abs/1511.01844))."
)
_STRANGE_NOTE = (
    "The likelihood of a flow follows how strokes look near by more than what they draw (Kirichenko 2020, "
    "[arXiv:2006.08545](https://arxiv.org/abs/2006.08545)): it finds images of another kind, and tells little of "
    "mirrored digits, of which a Gaussian tells more."
)


@dataclass(frozen=True, slots=True)
class Anomalies:
    """Images that are none of the data's: uint8 (N, 1, S, S), and what they are."""

    name: str
    images: Tensor
    meaning: str


def evaluate_flow(weights: Path, split: Split, strange: Anomalies) -> Evaluation:
    """Every figure and sheet of a folder of weights; a minute on a core."""
    flow = load_flow(weights)
    classes = len(flow.config.classes)
    judge = train_judge(split.train)
    sample = read_held_out(weights, classes=classes, channels=1)

    def draw(classes: Tensor) -> Tensor:
        return draw_classes(flow, classes)

    figures = [
        *likelihood_figures(flow, split, [strange, _mirrored(split), _noise(split)]),
        _sample_figure(flow, sample.images),
        *class_figures(draw, judge, split),
        *sample_figures(draw, sample),
    ]
    sheets: Mapping[str, Image.Image] = {
        "classes": class_sheet(flow, columns=12),
        "temperature": temperature_sheet(flow, columns=12, scales=(0.25, 0.5, 0.7, 0.85, 1.0, 1.15)),
        "interpolations": interpolation_sheet(flow, sample, columns=12),
    }
    return Evaluation(figures, sheets, [_BITS_NOTE, _STRANGE_NOTE, distance_note(split)])


def likelihood_figures(flow: ImageFlow, split: Split, anomalies: list[Anomalies]) -> Iterator[Figure]:
    """What follows from the density alone."""
    values = dequantised(split.held_out.images)
    nats = by_class(flow, values)
    whole = over_classes(nats)
    gaussian = Gaussian.of(dequantised(split.train.images), flow.config.alpha)
    plain = gaussian.log_likelihood(values)
    dimensions = flow.config.dimensions
    own = nats.gather(1, split.held_out.classes[:, None])[:, 0]
    yield Figure(
        "bits_per_dimension",
        bits_per_dimension(whole, dimensions),
        "lower",
        tolerance=0.02,
        baseline=bits_per_dimension(plain, dimensions),
        baseline_name="a Gaussian of full covariance",
        meaning="of held-out images, whatever their class; the Gaussian is fitted to the same logits",
    )
    yield Figure(
        "bits_per_dimension_given_class",
        bits_per_dimension(own, dimensions),
        "lower",
        tolerance=0.02,
        baseline=_UNIFORM_BITS,
        baseline_name="uniform pixels",
        meaning="the same, given each image's class",
    )
    yield Figure(
        "likeliest_class_accuracy",
        (nats.argmax(1) == split.held_out.classes).float().mean().item(),
        "higher",
        tolerance=0.02,
        baseline=1 / nats.shape[1],
        baseline_name="chance",
        meaning="how often a held-out image is likeliest given its own class",
    )
    yield _inversion_figure(flow, values, split.held_out.classes)
    for each in anomalies:
        odd = dequantised(each.images)
        yield Figure(
            f"anomaly_auroc_{each.name}",
            auroc(whole, marginal(flow, odd)),
            "higher",
            tolerance=0.02,
            baseline=auroc(plain, gaussian.log_likelihood(odd)),
            baseline_name="that Gaussian",
            meaning=f"how often a held-out image is likelier than {each.meaning}",
        )


def _sample_figure(flow: ImageFlow, images: Tensor) -> Figure:
    return Figure(
        "sample_bits_per_dimension",
        bits_per_dimension(marginal(flow, dequantised(images)), flow.config.dimensions),
        "lower",
        tolerance=0.01,
        baseline=_UNIFORM_BITS,
        baseline_name="uniform pixels",
        meaning="bits per dimension of the committed sample of held-out images",
    )


@torch.inference_mode()
def _inversion_figure(flow: ImageFlow, values: Tensor, classes: Tensor) -> Figure:
    """How well float32 inverts: through the whole map and back."""
    given, weights = values[:_INVERTED], one_hot(classes[:_INVERTED], len(flow.config.classes))
    back = flow.inverse(flow(given, weights)[0], weights)
    return Figure(
        "inversion_error",
        (back - given).abs().max().item(),
        "lower",
        tolerance=0.1,
        baseline=0.5,
        baseline_name="where a pixel changes",
        meaning=f"largest distance of a pixel's value, of {_INVERTED} held-out images, from what the flow and its "
        "inverse make of it, in levels of 255",
    )


def _mirrored(split: Split) -> Anomalies:
    """The strokes of digits, but not digits: what is strange about most of them is their shape alone."""
    return Anomalies("mirrored", split.held_out.images.flip(-1), "a held-out image mirrored left to right")


def _noise(split: Split) -> Anomalies:
    shape = (_NOISE, *split.held_out.images.shape[1:])
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(SEED))
    return Anomalies("noise", images, "an image of uniform noise")
