"""Maximum likelihood, through the recipe's own parts."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image

from services.families.flow import evaluation
from services.families.flow.details import DetailConfig
from services.families.flow.drawing import bits_per_dimension, dequantised, marginal
from services.families.flow.evaluation import Anomalies, evaluate_flow
from services.families.flow.gaussian import Gaussian
from services.families.flow.likelihood import LikelihoodTraining
from services.families.flow.model import ImageFlow
from services.families.flow.tasks import GIVEN_CLASS, METRIC
from services.families.flow.train import DigitsFlow, known_scores, light_on_black
from services.nn.percentiles import read_known, write_known
from services.nn.weights import save_model
from services.training import judge
from services.training.held_out import write_held_out
from services.training.image_data import ImageSet, read_split
from services.training.judge import train_judge
from tests.unit.flow.tiny import SHAPE, SIDE, make_data, make_flow, some_images

CALM = SHAPE.model_copy(update={"scales": (DetailConfig(width=8, couplings=3),) * 2})


def learn(training: LikelihoodTraining, steps: int) -> None:
    """The loop's own steps in small."""
    flow = training.modules["flow"]
    optimizer = torch.optim.AdamW(flow.parameters(), lr=1e-2)
    for step in range(steps):
        draws = torch.Generator().manual_seed(step)
        batch = training.batch(torch.randint(training.examples, (24,), generator=draws), draws)
        loss, _ = training.loss("likelihood", training.modules, batch, draws)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 10.0)
        optimizer.step()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(data: Path) -> ImageFlow:
    training = LikelihoodTraining(CALM, read_split(data), 0, 1e-2)
    learn(training, 70)
    return cast(ImageFlow, training.modules["flow"]).eval().requires_grad_(False)


def quick_judge(images: ImageSet, *, steps: int = 60, seed: int = 0, extra: ImageSet | None = None) -> judge.Judge:
    return train_judge(images, steps=min(steps, 60), seed=seed, extra=extra)


def test_the_same_seed_begins_with_the_same_weights(data: Path) -> None:
    flows = [LikelihoodTraining(CALM, read_split(data), seed, 1e-3).modules["flow"] for seed in (1, 1, 2)]
    first, again, other = (flow.state_dict() for flow in flows)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_building_leaves_torch_s_own_generator_alone(data: Path) -> None:
    before = torch.get_rng_state()
    LikelihoodTraining(CALM, read_split(data), 1, 1e-3)
    assert torch.equal(before, torch.get_rng_state())


def test_a_batch_holds_the_asked_images_with_noise_within_their_levels(data: Path) -> None:
    split = read_split(data)
    training = LikelihoodTraining(CALM, split, 0, 1e-3)
    values, classes = training.batch(torch.tensor([3, 100]), torch.Generator().manual_seed(0))
    other, _ = training.batch(torch.tensor([3, 100]), torch.Generator().manual_seed(1))
    assert torch.equal(classes, split.train.classes[[3, 100]])
    assert torch.equal(values.floor().to(torch.uint8), split.train.images[[3, 100]])
    assert not torch.equal(values, other), "each time an image is seen its noise is new"
    assert training.examples == len(split.train) == 162


def test_a_short_training_beats_uniform_pixels_and_knows_the_classes(data: Path, trained: ImageFlow) -> None:
    split = read_split(data)
    training = LikelihoodTraining(CALM, split, 0, 1e-2)
    start = training.validate(training.modules)["metric"]
    bits = training.validate({"flow": trained})["metric"]
    assert bits < 6 < 8 < start + 2
    known = known_scores(trained, split)
    assert (known[GIVEN_CLASS][1] >= known[METRIC][1]).double().mean() > 0.9


def test_a_trained_flow_draws_the_class_that_was_asked_for(data: Path, trained: ImageFlow) -> None:
    """Brightness tells left, right and top."""
    sheet = LikelihoodTraining(CALM, read_split(data), 0, 1e-2).sample({"flow": trained})
    assert isinstance(sheet, Image.Image)
    images = evaluation.draw_classes(trained, torch.arange(3).repeat_interleave(30))
    left, right = images[..., : SIDE // 2].mean(dim=(1, 2, 3)), images[..., SIDE // 2 :].mean(dim=(1, 2, 3))
    assert (left[:30] > right[:30]).float().mean() > 0.9
    assert (left[30:60] < right[30:60]).float().mean() > 0.9


def test_an_evaluation_has_every_figure_beside_its_baseline(
    data: Path, trained: ImageFlow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "train_judge", quick_judge)
    split = read_split(data)
    save_model(trained, CALM, tmp_path)
    write_held_out(split.held_out, tmp_path)
    write_known(tmp_path, known_scores(trained, split))
    assert set(read_known(tmp_path, (METRIC, GIVEN_CLASS))) == {METRIC, GIVEN_CLASS}
    found = evaluate_flow(tmp_path, split, Anomalies("emoji", some_images(20), "another image"))
    figures = {figure.name: figure for figure in found.figures}
    assert figures.keys() == {
        "bits_per_dimension",
        "bits_per_dimension_given_class",
        "likeliest_class_accuracy",
        "inversion_error",
        "anomaly_auroc_emoji",
        "anomaly_auroc_mirrored",
        "anomaly_auroc_noise",
        "sample_bits_per_dimension",
        "frechet_distance",
        "frechet_distance_of_training_images",
        "class_accuracy",
        "class_accuracy_of_held_out_images",
        "sample_frechet_distance",
        "sample_neighbour_accuracy",
    }
    assert all(np.isfinite(figure.value) for figure in found.figures)
    assert figures["anomaly_auroc_noise"].value > 0.99
    assert figures["inversion_error"].value < 0.1
    assert set(found.sheets) == {"classes", "temperature", "interpolations"}


def test_a_gaussian_s_bits_are_those_of_its_formula() -> None:
    """Of independent pixels, by hand: the entropy of the noise that was put in."""
    generator = torch.Generator().manual_seed(0)
    logits = 0.5 * torch.randn(4000, 1, 2, 2, generator=generator, dtype=torch.float64)
    values = (torch.sigmoid(logits) - 0.05) / 0.9 * 256
    nats = Gaussian.of(values, 0.05).log_likelihood(values)
    spread = (0.9 / 256 / torch.sigmoid(logits) / torch.sigmoid(-logits)).log().flatten(1).sum(1)
    entropy = 4 * (0.5 * np.log(2 * np.pi * np.e) + np.log(0.5))
    assert (nats - spread).mean().item() == pytest.approx(-entropy, abs=0.1)


def test_bits_are_nats_of_a_dimension_over_the_log_of_two() -> None:
    flow = make_flow()
    nats = marginal(flow, dequantised(some_images(3)))
    assert bits_per_dimension(nats, 64) == pytest.approx(-nats.mean().item() / 64 / np.log(2), rel=1e-5)


def test_what_digits_are_compared_with_is_light_on_black() -> None:
    white, red = torch.full((3, 2, 2), 255, dtype=torch.uint8), torch.zeros(3, 2, 2, dtype=torch.uint8)
    red[0] = 255
    grey = light_on_black(torch.stack([white, red]))
    assert grey.shape == (2, 1, 2, 2)
    assert grey[0].max() == 0
    assert grey[1].unique().tolist() == [round(255 * (1 - 0.299))]


def test_the_recipe_s_weights_keep_to_their_budget(tmp_path: Path) -> None:
    recipe = DigitsFlow()
    save_model(make_flow(recipe.config), recipe.config, tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < recipe.max_bytes
    assert recipe.config.side == 28
