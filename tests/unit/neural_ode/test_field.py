"""The velocity field, its files, and the way between pixels and its space."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from services.families import LoadedModel
from services.families.neural_ode.family import load
from services.families.neural_ode.images.drawing import Solver, draw_classes, load_flow
from services.families.neural_ode.images.model import VelocityField
from services.families.neural_ode.images.pixels import bits_per_dimension, to_space, to_unit
from services.families.neural_ode.solvers import METHODS, solve
from services.families.neural_ode.train import DigitsOde
from services.nn.errors import UnsupportedModel
from services.nn.images import to_pixels
from services.nn.weights import CONFIG, save_model
from tests.unit.neural_ode.tiny import FLOW, image_config, make_flow, series_config


def velocity(model: VelocityField, time: Tensor, classes: Tensor) -> Tensor:
    x = torch.randn(len(time), 1, 8, 8, generator=torch.Generator().manual_seed(0)).to(model.patches.weight)
    return model(x, time, model.one_hot(classes))


def test_a_row_of_a_batch_is_the_row_alone() -> None:
    model = make_flow().double()
    x = torch.randn(5, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    times, weights = torch.linspace(0, 1, 5).double(), model.one_hot(torch.tensor([0, 1, 2, 3, 0]))
    together = model(x, times, weights)
    assert together.shape == x.shape
    for i in range(5):
        alone = model(x[i : i + 1], times[i : i + 1], weights[i : i + 1])[0]
        assert torch.allclose(alone, together[i], atol=1e-12, rtol=0)


def test_time_class_and_no_class_change_the_velocity() -> None:
    model = make_flow()
    zeros = torch.zeros(1)
    base = velocity(model, zeros, torch.tensor([0]))
    for time, label in ((0.4, 0), (0.0, 1), (0.0, model.no_class)):
        assert (velocity(model, zeros + time, torch.tensor([label])) - base).abs().max() > 0.05


def test_at_first_the_flow_is_that_to_a_gaussian_of_each_pixel() -> None:
    """What is added begins as nothing; the rest takes N(0, 1) to each pixel's mean and deviation."""
    model = VelocityField(FLOW)
    data = torch.randn(500, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.2, 2, 8) + 0.5
    model.fit(data)
    start = torch.randn(4, 64, generator=torch.Generator().manual_seed(1))
    field = model.given(model.one_hot(torch.tensor([0, 1, 2, 3])))
    with torch.no_grad():
        end = solve(field, start, 0.0, 1.0, steps=40, method=METHODS["rk4"])
    expected = data.mean(0).flatten() + data.std(0).flatten() * start
    assert torch.allclose(end, expected, atol=1e-3)


def test_every_level_survives_the_way_into_the_space_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    for rest in (0.001, 0.5, 0.999):
        back = to_pixels(to_unit(to_space(levels, torch.full(levels.shape, rest, dtype=torch.float64))))[0]
        assert torch.equal(torch.from_numpy(back)[..., 0], levels[0, 0])


def test_what_is_beyond_black_and_white_is_black_and_white() -> None:
    assert to_unit(torch.tensor([-50.0, 50.0])).tolist() == [-1.0, 1.0]


def test_equal_odds_of_all_levels_take_eight_bits() -> None:
    assert bits_per_dimension(-784 * torch.tensor(256.0).log().item(), 784) == pytest.approx(8)


def test_saved_weights_draw_the_same_again(tmp_path: Path) -> None:
    model = make_flow().half().float()  # what half precision keeps
    save_model(model, FLOW, tmp_path)
    drawn = [draw_classes(each, torch.arange(3), Solver(steps=3)) for each in (model, load_flow(tmp_path))]
    assert torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("kind", ["image", "series"])
def test_another_kind_of_model_is_refused(kind: str, image_folder: Path, series_folder: Path) -> None:
    folder = series_folder if kind == "image" else image_folder
    config = image_config(folder) if kind == "image" else series_config(folder)
    with pytest.raises(UnsupportedModel, match="model_type"):
        load(config, folder)


def test_weights_that_lack_a_tensor_are_refused(tmp_path: Path) -> None:
    save_model(make_flow(), FLOW, tmp_path)
    (tmp_path / CONFIG).write_text(FLOW.model_copy(update={"depth": 3}).model_dump_json())
    with pytest.raises(UnsupportedModel, match="do not fit"):
        load(image_config(tmp_path), tmp_path)


def test_a_loaded_model_says_what_it_does_and_counts_its_memory(images: LoadedModel, image_folder: Path) -> None:
    assert set(images.tasks) == {"image", "interpolation", "score"} == set(image_config(image_folder).does)
    assert (images.limits["width"], images.limits["max_samples"]) == (8, 32)
    small, large = (load(image_config(image_folder, max_batch_size=paths), image_folder).memory for paths in (4, 64))
    assert large > small > sum(parameter.nbytes for parameter in make_flow().parameters())


def test_a_loaded_latent_ode_says_what_it_does(series: LoadedModel, series_folder: Path) -> None:
    assert set(series.tasks) == {"forecast"} == set(series_config(series_folder).does)
    assert series.limits["max_intervals"] == 40
    assert series.memory > series_config(series_folder).path_memory


def test_the_recipe_s_weights_keep_to_their_budget(tmp_path: Path) -> None:
    recipe = DigitsOde()
    model = VelocityField(recipe.config)
    save_model(model, recipe.config, tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < recipe.max_bytes
    assert sum(parameter.numel() for parameter in model.parameters()) <= 1_500_000
    assert recipe.config.image_size == 28
