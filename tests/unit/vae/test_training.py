"""Both kinds of training in small, through the recipes' own parts, and what an evaluation says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from services.families.vae import image_evaluation
from services.families.vae.image_bulk import load_vae, reconstruct, scores
from services.families.vae.image_evaluation import evaluate_vae
from services.families.vae.image_export import export_vae, information, with_prior
from services.families.vae.image_model import ImageVae
from services.families.vae.image_training import ImageTraining
from services.families.vae.record_bulk import load_record_vae, score_records
from services.families.vae.record_evaluation import evaluate_record_vae, export_record_vae
from services.families.vae.record_model import RecordVae, RecordVaeConfig
from services.families.vae.record_training import RecordTraining
from services.families.vae.train import EmojiVae, RecordsVae
from services.nn.percentiles import read_known
from services.nn.weights import save_model
from services.training import judge
from services.training.image_data import ImageSet, Split, read_split
from services.training.judge import train_judge
from services.training.record_data import RecordSplit
from tests.record_tables import OUTCOME
from tests.unit.vae.tiny import SHAPE, SIDE, make_data, make_picture, make_vae


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return read_split(make_data(tmp_path_factory.mktemp("data")))


def fit(training: ImageTraining | RecordTraining, steps: int) -> None:
    """The loop's own steps in small."""
    (phase,) = training.phases
    (module,) = training.modules.values()
    optimizer = torch.optim.AdamW(module.parameters(), lr=5e-3, betas=phase.betas)
    for step in range(steps):
        draws = torch.Generator().manual_seed(step)
        batch: Any = training.batch(torch.randint(training.examples, (32,), generator=draws), draws)
        loss, _ = training.loss(phase.name, training.modules, batch, draws)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def vae_of(training: ImageTraining) -> ImageVae:
    vae = training.modules["vae"]
    assert isinstance(vae, ImageVae)
    return vae


@pytest.fixture(scope="module")
def trained(split: Split) -> ImageVae:
    training = ImageTraining(SHAPE, split, 0)
    fit(training, 100)
    return vae_of(training).eval().requires_grad_(False)


def test_the_same_seed_begins_with_the_same_weights(split: Split, records: RecordSplit) -> None:
    config = RecordVaeConfig(table=records.table, width=8, latent_size=2, components=2)
    for make in (
        lambda seed: ImageTraining(SHAPE, split, seed),
        lambda seed: RecordTraining(config, records, seed, free_nats=2.0),
    ):
        before = torch.get_rng_state()
        first, again, other = (make(seed).modules["vae"].state_dict() for seed in (1, 1, 2))
        assert torch.equal(before, torch.get_rng_state()), "torch's own generator is not ours"
        assert all(torch.equal(first[key], again[key]) for key in first)
        assert not all(torch.equal(first[key], other[key]) for key in first)


def test_a_batch_holds_the_asked_images_mirrored_or_shifted(split: Split) -> None:
    training = ImageTraining(SHAPE, split, 0)
    images, classes = training.batch(torch.arange(100), torch.Generator().manual_seed(0))
    assert images.dtype == torch.uint8
    assert images.shape == (100, 3, SIDE, SIDE)
    assert torch.equal(classes, split.train.classes[:100])
    given = split.train.images[:100]
    inner = slice(4, -4)
    places = [
        (dy, dx, mirrored) for dy in range(-2, 3) for dx in range(-2, 3) for mirrored in (False, True)
    ]  # fmt: skip
    found = set()
    for before, after in zip(given, images, strict=True):
        for dy, dx, mirrored in places:
            source = before.flip(-1) if mirrored else before
            moved = torch.roll(source, (-dy, -dx), (1, 2))
            if torch.equal(moved[:, inner, inner], after[:, inner, inner]):
                found.add((dy, dx, mirrored))
                break
        else:
            pytest.fail("an image was changed otherwise")
    assert len(found) > 25


def test_a_short_training_brings_given_images_back(split: Split, trained: ImageVae) -> None:
    """There and back: far nearer than the mean image, and nearer than before."""
    held_out = split.held_out

    def error(vae: ImageVae) -> float:
        return float((reconstruct(vae, held_out.images) - held_out.units()).square().mean())

    mean = float((split.train.units().mean(0) - held_out.units()).square().mean())
    assert error(trained) < 0.35 * mean
    assert error(trained) < 0.35 * error(vae_of(ImageTraining(SHAPE, split, 0)).eval())


def test_a_short_training_raises_the_bound_and_tells_strangers(split: Split, trained: ImageVae) -> None:
    known = scores(trained, split.held_out.images)
    before = scores(vae_of(ImageTraining(SHAPE, split, 0)).eval(), split.held_out.images)
    assert known.mean() > before.mean() + 500
    strange = scores(trained, torch.stack([make_picture(seed) for seed in range(10)]))
    assert strange.max() < known.min()


def test_validation_is_in_bits_of_both_parts(split: Split) -> None:
    training = ImageTraining(SHAPE, split, 0)
    with torch.no_grad():
        figures = training.validate(training.modules)
    assert set(figures) == {"metric", "training"}
    assert all(2 < value < 20 for value in figures.values())
    assert training.sample(training.modules).size[0] > 100


def test_an_export_has_its_latents_in_order_and_known_scores(split: Split, trained: ImageVae, tmp_path: Path) -> None:
    export_vae(trained, 3, split, tmp_path)
    published = load_vae(tmp_path)
    assert published.config.components == 3
    order = information(trained, split).argsort(descending=True)
    images = split.held_out.images
    assert torch.allclose(published.encode(images).mean, trained.encode(images).mean[:, order], atol=0.05)
    known = read_known(tmp_path, ["elbo", "importance_weighted_bound"])
    median = float(scores(published, images).median())
    assert known["elbo"].percentile(median).held_out == pytest.approx(50, abs=5)
    assert known["importance_weighted_bound"].held_out.quantiles[100] > known["elbo"].held_out.quantiles[100]


def test_a_fitted_prior_raises_the_bound_and_leaves_the_networks_alone(split: Split, trained: ImageVae) -> None:
    fitted = with_prior(trained, 4, split)
    for name, weight in trained.state_dict().items():
        assert name.startswith("prior.") or torch.equal(weight, fitted.state_dict()[name])
    assert fitted.prior.mean.shape == (12, SHAPE.latent_size)
    for part in (split.train, split.held_out):
        assert scores(fitted, part.images).mean() > scores(trained, part.images).mean()


def quick_judge(images: ImageSet, *, steps: int = 60, seed: int = 0, extra: ImageSet | None = None) -> judge.Judge:
    return train_judge(images, steps=min(steps, 60), seed=seed, extra=extra)


def test_an_evaluation_has_every_figure_beside_its_baseline(
    split: Split, trained: ImageVae, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_evaluation, "train_judge", quick_judge)
    export_vae(trained, 3, split, tmp_path)
    strangers = {"checked boards": torch.full((5, 3, SIDE, SIDE), 77, dtype=torch.uint8)}
    found = evaluate_vae(tmp_path, split, strangers)
    figures = {figure.name: figure for figure in found.figures}
    assert {
        "frechet_distance",
        "class_accuracy",
        "sample_bits_per_dimension",
        "bits_per_dimension",
        "bits_per_dimension_of_training_images",
        "bits_per_dimension_importance_weighted",
        "reconstruction_error",
        "nearest_training_image",
        "auroc_against_noise",
        "auroc_against_checked_boards",
        "reconstruction_auroc_against_noise",
        "reconstruction_auroc_against_checked_boards",
    } <= set(figures)
    assert all(np.isfinite(figure.value) for figure in found.figures)
    assert figures["auroc_against_noise"].value == 1
    assert figures["bits_per_dimension_importance_weighted"].value < figures["bits_per_dimension"].value
    error = figures["reconstruction_error"]
    assert error.baseline is not None
    assert error.value < error.baseline
    assert set(found.sheets) == {"classes", "truncation", "reconstructions", "interpolations"}


def test_the_histogram_baseline_is_the_entropy_of_numbers_that_are_alike() -> None:
    """Numbers that are 0 or 255 by halves take one bit each, save for what each level is counted once more."""
    images = torch.zeros(2000, 1, 2, 2, dtype=torch.uint8)
    images[::2] = 255
    part = ImageSet(images, torch.zeros(2000).long())
    expected = -math.log2(1001 / 2256)
    assert image_evaluation.histogram_bits(Split(part, part)) == pytest.approx(expected)


def test_a_short_training_of_records_learns_what_columns_have_to_do_with_each_other(
    records: RecordSplit, tmp_path: Path
) -> None:
    config = RecordVaeConfig(table=records.table, width=32, latent_size=3, components=4)
    training = RecordTraining(config, records, 0, free_nats=2.0)
    with torch.no_grad():
        before = training.validate(training.modules)
    fit(training, 200)
    with torch.no_grad():
        after = training.validate(training.modules)
    assert after["metric"] < before["metric"] - 1
    vae = training.modules["vae"]
    assert isinstance(vae, RecordVae)
    export_record_vae(vae, records, tmp_path)
    found = evaluate_record_vae(tmp_path, records, outcome=OUTCOME)
    figures = {figure.name: figure for figure in found.figures}
    assert figures["elbo"].value == pytest.approx(
        float(score_records(load_record_vae(tmp_path), records.held_out).mean())
    )
    assert figures["elbo"].baseline is not None
    assert figures["elbo"].value > figures["elbo"].baseline, "columns one by one say as much"
    assert figures["importance_weighted_bound"].value > figures["elbo"].value
    assert figures["sample_elbo"].value == figures["elbo"].value
    assert figures["anomaly_auroc"].value > 0.55
    assert set(read_known(tmp_path, ["elbo", "importance_weighted_bound"])) == {"elbo", "importance_weighted_bound"}
    assert training.sample(training.modules).size == found.sheets["correlations"].size


def test_the_recipe_s_weights_keep_to_their_budget(tmp_path: Path) -> None:
    recipe = EmojiVae()
    save_model(make_vae(recipe.shape), recipe.shape, tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < recipe.max_bytes
    assert recipe.shape.image_size == 32


def test_the_recipe_of_records_keeps_to_its_budget(records: RecordSplit, tmp_path: Path) -> None:
    recipe = RecordsVae()
    config = RecordVaeConfig(
        table=records.table, width=recipe.width, latent_size=recipe.latent_size, components=recipe.components
    )
    save_model(RecordVae(config), config, tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < recipe.max_bytes / 2
