"""The generator and its files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from services.families import LoadedModel
from services.families.gan.drawing import load_generator
from services.families.gan.family import load
from services.families.gan.model import Generator, GeneratorConfig, one_hot
from services.nn.errors import UnsupportedModel
from services.nn.latents import lerp, slerp
from services.nn.weights import CONFIG, DTYPES, WEIGHTS, load_model, save_model
from tests.unit.gan.tiny import SHAPE, make_generator, tiny_config


def draw(generator: Generator, rows: int = 4) -> torch.Tensor:
    latent = torch.randn(rows, SHAPE.latent_size, generator=torch.Generator().manual_seed(0))
    weights = one_hot(torch.arange(rows) % 3, 3)
    parameter = next(generator.parameters())
    return generator(latent.to(parameter), weights.to(parameter))


def test_images_have_the_configured_shape_and_range() -> None:
    images = draw(make_generator())
    assert images.shape == (4, 1, 16, 16)
    assert images.abs().max() <= 1
    assert images.std() > 0.05, "the test's images are too alike to test anything"


def test_a_row_of_a_batch_is_the_row_alone() -> None:
    generator = make_generator().double()
    latent = torch.randn(5, SHAPE.latent_size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights = one_hot(torch.tensor([0, 1, 2, 0, 1]), 3).double()
    together = generator(latent, weights)
    for i in range(5):
        assert torch.allclose(generator(latent[i : i + 1], weights[i : i + 1])[0], together[i], atol=1e-12, rtol=0)


def test_the_class_changes_the_image() -> None:
    generator = make_generator()
    latent = torch.zeros(1, SHAPE.latent_size)
    images = [generator(latent, one_hot(torch.tensor([label]), 3)) for label in range(3)]
    assert (images[0] - images[1]).abs().max() > 0.05
    assert (images[1] - images[2]).abs().max() > 0.05


def test_saved_weights_are_half_precision_and_load_to_the_same_images(tmp_path: Path) -> None:
    generator = make_generator().half().float()  # what half precision keeps
    save_model(generator, SHAPE, tmp_path)
    assert {weight.dtype for weight in load_file(tmp_path / WEIGHTS).values()} == {torch.float16}
    again = load_generator(tmp_path)
    assert not again.training
    assert torch.equal(draw(generator), draw(again))


def test_another_kind_of_model_is_refused(tmp_path: Path, folder: Path) -> None:
    text = (folder / CONFIG).read_text()
    (tmp_path / CONFIG).write_text(text.replace("castalia-gan", "castalia-diffusion"))
    with pytest.raises(UnsupportedModel, match="model_type"):
        load(tiny_config(tmp_path), tmp_path)


def test_weights_that_lack_a_tensor_are_refused(tmp_path: Path) -> None:
    generator = make_generator()
    save_model(generator, SHAPE, tmp_path)
    wider = SHAPE.model_copy(update={"widths": (16, 8, 4)})
    (tmp_path / CONFIG).write_text(wider.model_dump_json())
    with pytest.raises(UnsupportedModel, match="do not fit"):
        load(tiny_config(tmp_path), tmp_path)


def test_a_loaded_model_says_what_it_draws_and_counts_its_memory(loaded: LoadedModel) -> None:
    assert set(loaded.tasks) == {"image", "interpolation"}
    assert loaded.limits == {"width": 16, "height": 16, "max_batch_size": 64}
    assert loaded.revision == "local"
    weights = sum(parameter.nbytes for parameter in make_generator().parameters())
    assert loaded.memory > weights


def test_memory_grows_with_the_batch(folder: Path) -> None:
    small, large = (load(tiny_config(folder, max_batch_size=rows), folder).memory for rows in (1, 128))
    assert large > small


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_lower_precision_draws_nearly_the_same(folder: Path, dtype: str) -> None:
    exact = load_generator(folder)
    rough = load_model(Generator, GeneratorConfig, folder, dtype=DTYPES[dtype], device=torch.device("cpu"))
    assert (draw(exact) - draw(rough).float()).abs().mean() < 0.05


def test_slerp_reaches_both_ends_exactly_and_keeps_the_length_between() -> None:
    draws = torch.Generator().manual_seed(0)
    start, end = torch.randn(64, generator=draws), torch.randn(64, generator=draws)
    assert torch.equal(slerp(start, end, 0.0), start)
    assert torch.equal(slerp(start, end, 1.0), end)
    middle = slerp(start, end, 0.5)
    assert middle.norm() == pytest.approx(((start.norm() + end.norm()) / 2).item(), rel=1e-5)
    assert lerp(start, end, 0.5).norm() < 0.85 * middle.norm(), "the straight way loses length"


def test_slerp_of_latents_in_line_takes_the_straight_way() -> None:
    start = torch.randn(8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(slerp(start, start, 0.3), start)
    assert torch.allclose(slerp(start, -start, 0.25), start / 2)
