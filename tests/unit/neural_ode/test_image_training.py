"""Flow matching in small, and its measuring, through the recipe's own parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from services.families.neural_ode.images import evaluation
from services.families.neural_ode.images.evaluation import evaluate_flow, write_likelihoods
from services.families.neural_ode.images.matching import FixedDraws, FlowMatching, flow_loss
from services.nn.percentiles import read_known
from services.nn.weights import save_model
from services.training.held_out import write_held_out
from services.training.image_data import ImageSet, read_split
from services.training.judge import Judge, train_judge
from tests.unit.neural_ode.tiny import FLOW, make_flow, make_image_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_image_data(tmp_path_factory.mktemp("data"))


def train(training: FlowMatching, steps: int) -> None:
    """The loop's own steps in small."""
    optimizer = torch.optim.AdamW(training.modules["flow"].parameters(), lr=1e-2)
    for step in range(steps):
        draws = torch.Generator().manual_seed(step)
        batch = training.batch(torch.randint(training.examples, (64,), generator=draws), draws)
        loss, _ = training.loss("matching", training.modules, batch, draws)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_the_same_seed_begins_with_the_same_weights_and_torch_s_generator_is_left_alone(data: Path) -> None:
    before = torch.get_rng_state()
    first, again, other = (FlowMatching(FLOW, read_split(data), seed).modules["flow"] for seed in (1, 1, 2))
    weights, same, different = (each.state_dict() for each in (first, again, other))
    assert all(torch.equal(weights[key], same[key]) for key in weights)
    assert not all(torch.equal(weights[key], different[key]) for key in weights)
    assert torch.equal(before, torch.get_rng_state())


def test_a_batch_withholds_some_classes_and_dequantises_anew(data: Path) -> None:
    training = FlowMatching(FLOW, read_split(data), 0)
    indices = torch.zeros(400, dtype=torch.int64)
    images, classes = training.batch(indices, torch.Generator().manual_seed(0))
    withheld = (classes == len(FLOW.classes)).float().mean().item()
    assert 0.03 < withheld < 0.2
    assert not torch.equal(images[0], images[1])


def test_the_loss_of_the_true_velocity_is_zero() -> None:
    data, noise = torch.randn(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    class Known(torch.nn.Module):
        def forward(self, x: torch.Tensor, time: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
            t = time[:, None, None, None]
            assert torch.allclose(x, noise + t * (data - noise), atol=1e-6)
            return data - noise

    assert flow_loss(Known(), data, noise, torch.tensor([0.0, 0.5, 1.0]), torch.zeros(3, 4)).item() == 0


def test_a_short_training_lowers_the_loss_of_held_out_images_and_learns_classes(data: Path) -> None:
    training = FlowMatching(FLOW, read_split(data), 0)
    with torch.no_grad():
        before = training.validate(training.modules)
    train(training, 80)
    with torch.no_grad():
        after = training.validate(training.modules)
    assert after["metric"] < 0.75 * before["metric"]
    assert after["metric"] < after["without_classes"]


def test_an_evaluation_has_every_figure_beside_its_baseline(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quick_judge(images: ImageSet) -> Judge:
        return train_judge(images, steps=60)

    monkeypatch.setattr(evaluation, "train_judge", quick_judge)
    monkeypatch.setattr(evaluation, "_SCORED", 6)
    model, split = make_flow(), read_split(data)
    save_model(model, FLOW, tmp_path)
    write_held_out(split.held_out, tmp_path)
    write_likelihoods(model, split, tmp_path)
    found = evaluate_flow(tmp_path, split)
    figures = {figure.name: figure for figure in found.figures}
    assert set(figures) == {
        "frechet_distance",
        "frechet_distance_of_training_images",
        "class_accuracy",
        "class_accuracy_of_held_out_images",
        "bits_per_dimension",
        "bits_per_dimension_given_class",
        "standard_deviation_of_an_estimate",
        "solver_error",
        "sample_flow_loss",
    }
    assert all(np.isfinite(figure.value) for figure in found.figures)
    gaussian = figures["bits_per_dimension"].baseline
    assert gaussian is not None
    assert 0 < gaussian < 8, "a Gaussian of each pixel must be better than equal odds on these images"
    assert set(found.sheets) == {"classes", "interpolations", "steps"}
    known = read_known(tmp_path, ("log_likelihood",))["log_likelihood"]
    assert known.percentile(-1e9).training == 0
    assert known.percentile(1e9).held_out == 100


def test_fixed_draws_are_the_same_each_time(data: Path) -> None:
    held_out = read_split(data).held_out
    first, again = (FixedDraws.of(held_out, 9) for _ in range(2))
    assert torch.equal(first.noise, again.noise)
    assert sorted(first.times.tolist()) == pytest.approx([(i + 0.5) / 9 for i in range(9)])
    assert first.classes.unique().tolist() == [0, 1, 2]
