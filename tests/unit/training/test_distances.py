"""Distances against closed forms, and what a picture's own file holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from services.training.augment import augment
from services.training.distances import FeatureStatistics, frechet_distance, nearest_class, pooled_pixels
from services.training.held_out import SAMPLE, DrawClasses, read_held_out, sample_scores, write_held_out
from services.training.image_data import ImageSet, read_split
from tests.unit.gan.tiny import make_data


def gaussian(mean: list[float], deviations: list[float]) -> FeatureStatistics:
    scale = torch.tensor(deviations, dtype=torch.float64)
    return FeatureStatistics(torch.tensor(mean, dtype=torch.float64), torch.diag(scale.square()))


def test_the_distance_of_axis_aligned_gaussians_is_the_closed_form() -> None:
    a, b = gaussian([0, 0, 0], [1, 2, 3]), gaussian([3, 0, 4], [2, 2, 1])
    assert frechet_distance(a, b) == pytest.approx(25 + (1 + 0 + 4), abs=1e-9)


def test_the_distance_does_not_change_under_a_rotation() -> None:
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    a, b = gaussian([0, 0, 0], [1, 2, 3]), gaussian([3, 0, 4], [2, 2, 1])
    turned = [FeatureStatistics(turn @ each.mean, turn @ each.covariance @ turn.T) for each in (a, b)]
    assert frechet_distance(turned[0], turned[1]) == pytest.approx(frechet_distance(a, b), abs=1e-9)


def test_the_distance_of_commuting_but_rotated_covariances_uses_the_matrix_root() -> None:
    """By hand, for 2x2 matrices: tr (A B)^1/2 = sqrt(tr AB + 2 sqrt(det AB)), here with tr AB = 10 and det AB = 12."""
    a = FeatureStatistics(torch.zeros(2, dtype=torch.float64), torch.tensor([[2.0, 1.0], [1.0, 2.0]]).double())
    b = gaussian([0, 0], [2, 1])
    cross = (10 + 2 * 12**0.5) ** 0.5
    assert frechet_distance(a, b) == pytest.approx(4 + 5 - 2 * cross, abs=1e-9)


def test_a_set_has_no_distance_to_itself_even_with_fewer_images_than_features() -> None:
    few = FeatureStatistics.of(torch.randn(5, 20, generator=torch.Generator().manual_seed(0)))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6)


def test_statistics_are_those_of_the_features() -> None:
    features = torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 4.0]])
    found = FeatureStatistics.of(features)
    assert found.mean.tolist() == [2.0, 2.0]
    assert torch.allclose(found.covariance, torch.tensor([[4.0, 3.0], [3.0, 3.0]]).double())


def test_pooled_pixels_are_means_of_blocks() -> None:
    images = torch.arange(16.0).view(1, 1, 4, 4)
    assert pooled_pixels(images, 2).tolist() == [[2.5, 4.5, 10.5, 12.5]]


def test_the_nearest_image_decides_the_class() -> None:
    known = torch.stack([torch.full((1, 2, 2), value) for value in (-1.0, 0.0, 1.0)])
    images = torch.stack([torch.full((1, 2, 2), value) for value in (0.9, -0.8, 0.1)])
    assert nearest_class(images, known, torch.tensor([5, 6, 7])).tolist() == [7, 5, 6]


def test_the_held_out_sample_is_read_as_it_was_written(tmp_path: Path) -> None:
    held_out = read_split(make_data(tmp_path)).held_out
    write_held_out(held_out, tmp_path)
    sample = read_held_out(tmp_path, classes=3, channels=1)
    assert torch.equal(sample.classes.bincount(), torch.tensor([6, 6, 6]))
    assert torch.equal(sample.images, held_out.of_each_class(6).images)
    assert (tmp_path / SAMPLE).stat().st_size < 100_000


def copying(sample: ImageSet, off: int) -> DrawClasses:
    """Draws images of the sample, in turn, of the class that is asked for or of one that is `off` by so many."""

    def draw(classes: Tensor) -> Tensor:
        rows = [
            (known := (sample.classes == label).nonzero()[:, 0])[i % len(known)]
            for i, label in enumerate((classes + off) % 3)
        ]
        return sample.units(torch.stack(rows))

    return draw


def test_a_perfect_generator_scores_best_on_the_sample(tmp_path: Path) -> None:
    sample = read_split(make_data(tmp_path)).held_out
    perfect, wrong = (sample_scores(copying(sample, off), sample) for off in (0, 1))
    untrained = sample_scores(lambda classes: torch.zeros(len(classes), *sample.images.shape[1:]), sample)
    assert perfect["neighbour"] == 1
    assert wrong["neighbour"] == 0
    assert perfect["frechet"] < 0.05 * untrained["frechet"]
    assert perfect == sample_scores(copying(sample, 0), sample), "scores must repeat"


@pytest.mark.parametrize("kind", ["colour", "translation", "cutout"])
def test_an_augmentation_changes_rows_apart_and_lets_gradients_through(kind: str) -> None:
    images = (torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1).requires_grad_()
    changed = augment(images, [kind], torch.Generator().manual_seed(1))  # type: ignore[list-item]
    assert changed.shape == images.shape
    assert not torch.equal(changed, images)
    twins = augment(images[:1].repeat(6, 1, 1, 1), [kind], torch.Generator().manual_seed(1))  # type: ignore[list-item]
    assert not torch.equal(twins[0], twins[1]), "rows must draw for themselves"
    changed.sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_a_translation_moves_pixels_without_changing_them() -> None:
    images = torch.zeros(8, 1, 16, 16)
    images[:, :, 8, 8] = 1.0
    moved = augment(images, ["translation"], torch.Generator().manual_seed(0))
    assert moved.flatten(1).sum(1).tolist() == [1.0] * 8
    places = moved.flatten(1).argmax(1)
    assert len(places.unique()) > 1
    assert ((places // 16 - 8).abs() <= 2).all()
    assert ((places % 16 - 8).abs() <= 2).all()
