"""Learning and measuring, through the recipes' own parts in small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from services.families.pixelcnn import evaluation, level_evaluation
from services.families.pixelcnn.evaluation import (
    evaluate_images,
    marginal_log_likelihoods,
    pixel_marginals,
    write_comparison,
)
from services.families.pixelcnn.level_data import LevelSet, LevelSplit, positions, write_sample
from services.families.pixelcnn.level_evaluation import evaluate_levels
from services.families.pixelcnn.sheets import class_sheet, half_kept, sample_sheet
from services.families.pixelcnn.sources import ImageSource, LevelSource, spread
from services.families.pixelcnn.tasks import GIVEN_CLASS, METRIC
from services.families.pixelcnn.train import DigitsPixelCnn, SokobanPixelCnn
from services.families.pixelcnn.training import Course, GridTraining
from services.nn.percentiles import read_known
from services.nn.weights import save_model
from services.training import judge
from services.training.held_out import write_held_out
from services.training.image_data import ImageSet, read_split
from services.training.judge import train_judge
from tests.unit.pixelcnn.test_level_data import LONG
from tests.unit.pixelcnn.tiny import EASY, IMAGES, LEVELS, make_data, make_model

COURSE = Course(learning_rate=1e-2, dropout=0.0, weight_decay=0.0)
SHAPE = IMAGES.model_copy(update={"height": 8, "width": 8})


def learn(training: GridTraining, steps: int, batch: int = 16) -> None:
    """The loop's own steps in small."""
    (phase,) = training.phases
    model = training.modules["model"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=phase.learning_rate)
    for step in range(steps):
        draws = torch.Generator().manual_seed(step)
        grids = training.batch(torch.randint(training.examples, (batch,), generator=draws), draws)
        loss, figures = training.loss(phase.name, training.modules, grids, draws)
        assert figures["bits_per_dimension"] == pytest.approx(loss.item() / np.log(2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def levels() -> LevelSplit:
    known = [torch.from_numpy(np.stack(positions(each, "r"))).to(torch.uint8) for each in (LONG, EASY)]
    return LevelSplit(LevelSet(known), LevelSet(known[1:]))


def image_training(data: Path, seed: int = 0) -> GridTraining:
    source = ImageSource(read_split(data), SHAPE.values)
    return GridTraining(SHAPE, COURSE, source, lambda model: class_sheet(model, columns=2), seed)


def test_the_same_seed_begins_with_the_same_weights(data: Path) -> None:
    first, again, other = (image_training(data, seed).modules["model"].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_building_leaves_torch_s_own_generator_alone(data: Path) -> None:
    before = torch.get_rng_state()
    image_training(data)
    assert torch.equal(before, torch.get_rng_state())


def test_a_batch_holds_the_asked_images_at_the_model_s_greys(data: Path) -> None:
    training = image_training(data)
    values, classes = training.batch(torch.tensor([3, 100]), torch.Generator())
    split = read_split(data)
    assert torch.equal(classes, split.train.classes[[3, 100]])
    away = (values.double() * 85 - split.train.images[[3, 100], 0].double()).abs()
    assert away.max() <= 42.5
    assert training.examples == len(split.train) == 108


def test_a_few_steps_make_held_out_images_likelier_than_their_pixels_alone_would(data: Path) -> None:
    training = image_training(data)
    before = training.validate(training.modules)["metric"]
    learn(training, 25)
    after = training.validate(training.modules)["metric"]
    assert after < 0.75 * before
    assert training.sample(training.modules).size[0] > 16


def test_levels_are_learnt_in_all_their_forms(levels: LevelSplit) -> None:
    shape = LEVELS.model_copy(update={"height": 8, "width": 8})
    training = GridTraining(shape, COURSE, LevelSource(levels, 8), sample_sheet, 0)
    before = training.validate(training.modules)["metric"]
    learn(training, 25)
    assert training.validate(training.modules)["metric"] < 0.6 * before
    values, labels = training.batch(torch.tensor([0, 1, 1]), torch.Generator().manual_seed(0))
    assert values.shape == (3, 8, 8)
    assert not labels.any()
    assert training.sample(training.modules).size[0] > 4 * 8 * 16


def test_pixels_by_themselves_are_the_baseline() -> None:
    """Against counting by hand: two images of class 0, one of class 1, a single pixel, two values."""
    values, labels = torch.tensor([[[1]], [[0]], [[1]]]), torch.tensor([0, 0, 1])
    marginals = pixel_marginals((values, labels), 2)
    assert torch.allclose(marginals[:, 0, 0], torch.tensor([[2 / 4, 2 / 4], [1 / 3, 2 / 3]], dtype=torch.float64))
    found = marginal_log_likelihoods(marginals, (torch.tensor([[[0]], [[0]]]), torch.tensor([0, 1])))
    assert found.exp().tolist() == pytest.approx([1 / 2, 1 / 3])


def test_the_lower_half_alone_is_free() -> None:
    (given,) = half_kept(ImageSet(torch.full((1, 1, 4, 4), 200, dtype=torch.uint8), torch.zeros(1)), 4)
    assert (given.values == np.array([2, 2, -1, -1])[:, None]).all()


def test_images_are_spread_over_all_classes(data: Path) -> None:
    some = spread(read_split(data).train, 9)
    assert some.classes.bincount().tolist() == [3, 3, 3]
    assert len(spread(some, 100)) == 9


def test_comparison_data_is_of_both_parts_and_kinds(data: Path, tmp_path: Path) -> None:
    write_comparison(make_model(SHAPE), read_split(data), tmp_path)
    known = read_known(tmp_path, (METRIC, GIVEN_CLASS))
    assert set(known) == {METRIC, GIVEN_CLASS}
    assert known[METRIC].training.quantiles != known[METRIC].held_out.quantiles


def quick_judge(images: ImageSet, *, steps: int = 20, seed: int = 0) -> judge.Judge:
    return train_judge(images, steps=min(steps, 20), seed=seed)


def test_an_evaluation_of_images_has_every_figure_beside_its_baseline(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "train_judge", quick_judge)
    save_model(make_model(SHAPE), SHAPE, tmp_path)
    write_held_out(read_split(data).held_out, tmp_path)
    found = evaluate_images(tmp_path, read_split(data))
    figures = {figure.name: figure for figure in found.figures}
    assert {
        "bits_per_dimension_given_class",
        "bits_per_dimension",
        "sample_bits_per_dimension",
        "class_accuracy",
        "inpainting_keeps_known_pixels",
        "inpainted_class_accuracy",
    } <= set(figures)
    assert all(np.isfinite(figure.value) for figure in found.figures)
    assert figures["inpainting_keeps_known_pixels"].value == 1.0
    assert figures["bits_per_dimension"].baseline == 2.0
    assert figures["bits_per_dimension_given_class"].baseline is not None
    assert set(found.sheets) == {"classes", "completions", "temperatures"}


def test_an_evaluation_of_levels_has_every_figure_beside_its_baseline(
    levels: LevelSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_DRAWN", 20), ("_SERVED", 4), ("_FORMS", 50), ("ATTEMPTS", 2)):
        monkeypatch.setattr(level_evaluation, name, value)
    shape = LEVELS.model_copy(update={"height": 8, "width": 8})
    save_model(make_model(shape), shape, tmp_path)
    write_sample(levels.held_out, tmp_path)
    found = evaluate_levels(tmp_path, levels)
    figures = {figure.name: figure for figure in found.figures}
    assert set(figures) == {
        "bits_per_tile",
        "sample_bits_per_tile",
        "well_formed_at_first",
        "well_formed",
        "playable",
        "unsolvable",
        "playable_of_real_levels",
        "new",
        "new_walls",
    }
    assert figures["playable_of_real_levels"].value == 1.0
    assert figures["well_formed"].baseline is not None
    assert set(found.sheets) == {"levels", "first_attempts"}


def test_what_is_drawn_is_compared_with_what_was_learnt(levels: LevelSplit) -> None:
    copy, turned = LONG, np.rot90(LONG)
    moved_box = LONG.copy()
    moved_box[1, [2, 3]] = moved_box[1, [3, 2]]
    other = np.pad(EASY, 1, constant_values=2)
    figures = level_evaluation.novelty_figures([copy, turned, moved_box, other], levels.train)
    assert [figure.value for figure in figures] == [0.5, 0.25]


@pytest.mark.parametrize("recipe", [DigitsPixelCnn(), SokobanPixelCnn()], ids=lambda recipe: recipe.name)
def test_a_recipe_s_weights_keep_to_their_budget(recipe: DigitsPixelCnn | SokobanPixelCnn, tmp_path: Path) -> None:
    save_model(make_model(recipe.config), recipe.config, tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < recipe.max_bytes
    assert recipe.config.height == {"digits-pixelcnn": 28, "sokoban-pixelcnn": 12}[recipe.name]


def test_a_course_is_what_the_optimizer_gets(data: Path) -> None:
    course = replace(COURSE, weight_decay=0.5)
    source = ImageSource(read_split(data), SHAPE.values)
    (phase,) = GridTraining(SHAPE, course, source, lambda model: class_sheet(model, columns=2), 0).phases
    assert (phase.learning_rate, phase.weight_decay) == (1e-2, 0.5)
