"""Owns the measuring of a published model of images: bits, classes, completed halves, its comparison data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from services.families.pixelcnn.drawing import draw_images, load_for_measuring, units_of
from services.families.pixelcnn.likelihood import bits_of, class_log_likelihoods, log_likelihoods, over_classes
from services.families.pixelcnn.model import GatedPixelCnn
from services.families.pixelcnn.sheets import class_sheet, completion_sheet, half_kept, temperature_sheet
from services.families.pixelcnn.sources import image_grids, spread
from services.families.pixelcnn.tasks import GIVEN_CLASS, METRIC
from services.families.pixelcnn.training import Grids
from services.nn.percentiles import write_known
from services.training.held_out import read_held_out
from services.training.image_data import ImageSet, Split
from services.training.image_figures import class_figures, distance_note
from services.training.judge import Judge, train_judge
from services.training.recipe import Evaluation, Figure

_KNOWN = 200  # images of either part that the percentiles are taken among
_COMPLETED = 200
_SAMPLED = 50  # of the held-out sample


def write_comparison(model: GatedPixelCnn, split: Split, folder: Path) -> None:
    """scores.json: likelihoods of training and of held-out images, of their own class and over all classes."""
    parts = [_scores(model, spread(images, _KNOWN)) for images in (split.train, split.held_out)]
    write_known(folder, {name: (parts[0][name], parts[1][name]) for name in (METRIC, GIVEN_CLASS)})


def _scores(model: GatedPixelCnn, images: ImageSet) -> dict[str, Tensor]:
    values, labels = image_grids(images, model.config.values)
    by_class = class_log_likelihoods(model, values)
    return {METRIC: over_classes(by_class), GIVEN_CLASS: by_class.gather(1, labels[:, None])[:, 0]}


def evaluate_images(weights: Path, split: Split) -> Evaluation:
    """Every figure and sheet of a folder of weights; some two minutes on a core."""
    model = load_for_measuring(weights)
    judge = train_judge(split.train)

    def draw(classes: Tensor) -> Tensor:
        return units_of(draw_images(model, classes.tolist()))

    figures = [
        *_bits(model, split),
        sample_figure(model, weights),
        *class_figures(draw, judge, split),
        *_completion_figures(model, judge, spread(split.held_out, _COMPLETED)),
    ]
    sheets = {
        "classes": class_sheet(model, columns=12),
        "completions": completion_sheet(model, spread(split.held_out, 12), draws=4),
        "temperatures": temperature_sheet(model, columns=12, temperatures=(0.25, 0.5, 0.75, 1.0, 1.25)),
    }
    return Evaluation(figures, sheets, [_likelihood_note(model), distance_note(split)])


def _bits(model: GatedPixelCnn, split: Split) -> list[Figure]:
    cells, levels = model.config.height * model.config.width, model.config.values
    values, labels = image_grids(split.held_out, levels)
    of_class = bits_of(log_likelihoods(model, values, labels).mean().item(), cells)
    some, _ = image_grids(spread(split.held_out, _KNOWN), levels)
    over_all = bits_of(over_classes(class_log_likelihoods(model, some)).mean().item(), cells)
    marginals = pixel_marginals(image_grids(split.train, levels), levels)
    of_marginals = bits_of(marginal_log_likelihoods(marginals, (values, labels)).mean().item(), cells)
    return [
        Figure(
            "bits_per_dimension_given_class",
            of_class,
            "lower",
            tolerance=0.005,
            baseline=of_marginals,
            baseline_name="each pixel by itself, its values as often as in training images of the class",
            meaning=f"exact, of held-out images at {levels} grey levels, given their class",
        ),
        Figure(
            "bits_per_dimension",
            over_all,
            "lower",
            tolerance=0.005,
            baseline=torch.tensor(float(levels)).log2().item(),
            baseline_name="uniform",
            meaning=f"the same over all classes, of {len(some)} held-out images",
        ),
    ]


def sample_figure(model: GatedPixelCnn, weights: Path) -> Figure:
    """Of the sample that lies beside the weights."""
    sample = read_held_out(weights, classes=len(model.config.classes), channels=1)
    values, labels = image_grids(spread(sample, _SAMPLED), model.config.values)
    return Figure(
        "sample_bits_per_dimension",
        bits_of(log_likelihoods(model, values, labels).mean().item(), values[0].numel()),
        "lower",
        tolerance=0.001,
        meaning=f"the same as the first, of {len(values)} images of the committed sample",
    )


def pixel_marginals(grids: Grids, levels: int) -> Tensor:
    """float64 (classes, H, W, K): how often each pixel has each value in images of a class, one added to each count."""
    values, labels = grids
    hot = torch.nn.functional.one_hot(values, levels).double()
    counts = torch.stack([hot[labels == label].sum(0) for label in range(int(labels.max()) + 1)]) + 1
    return counts / counts.sum(-1, keepdim=True)


def marginal_log_likelihoods(marginals: Tensor, grids: Grids) -> Tensor:
    """ln p in nats, float64 (N,), of images whose pixels are independent."""
    values, labels = grids
    return marginals[labels].gather(3, values[..., None]).log().sum((1, 2, 3))


def _completion_figures(model: GatedPixelCnn, judge: Judge, real: ImageSet) -> Sequence[Figure]:
    """The upper half is kept, and the class named."""
    given = half_kept(real, model.config.values)
    drawn = units_of(draw_images(model, real.classes.tolist(), given=given))
    images, half = real.units(), real.images.shape[2] // 2
    blank = images.clone()
    blank[:, :, half:] = -1.0
    kept = (drawn[:, :, :half] == images[:, :, :half]).flatten(1).all(1)
    return (
        Figure(
            "inpainting_keeps_known_pixels",
            kept.float().mean().item(),
            "higher",
            tolerance=0.0,
            meaning="share of held-out images whose upper half is unchanged to the byte as the lower is drawn anew",
        ),
        Figure(
            "inpainted_class_accuracy",
            judge.accuracy(drawn, real.classes),
            "higher",
            tolerance=0.05,
            baseline=judge.accuracy(blank, real.classes),
            baseline_name="the lower half black",
            meaning="how often the classifier sees the class in those images",
        ),
    )


def _likelihood_note(model: GatedPixelCnn) -> str:
    levels = model.config.values
    return (
        f"Likelihoods are exact, and of images at {levels} grey levels, to which pixels are rounded first: bits per "
        f"dimension compare with those of other models of the same {levels} levels alone, not with those of 8-bit "
        "pixels. Over all classes means the mean over ten passes, every class being as likely as another."
    )
