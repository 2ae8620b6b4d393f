"""The autoencoder of images and its files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from services.families import LoadedModel
from services.families.vae.family import load
from services.families.vae.image_bulk import draw_classes, load_vae, reconstruct, scores
from services.families.vae.image_export import information, reordered
from services.families.vae.image_model import ImageVae, ImageVaeConfig
from services.nn.errors import UnsupportedModel
from services.nn.weights import CONFIG, DTYPES, WEIGHTS, load_model, save_model
from services.training.image_data import read_split
from shared.config.vae import ImageVaeModel
from tests.unit.vae.tiny import SHAPE, SIDE, make_data, make_picture, make_vae, record_config, tiny_config

CLASSES = torch.tensor([0, 1, 2, 0])
PICTURES = torch.stack([make_picture(seed) for seed in range(4)])


def test_images_have_the_configured_shape_and_range() -> None:
    images = draw_classes(make_vae(), CLASSES)
    assert images.shape == (4, 3, SIDE, SIDE)
    assert images.abs().max() <= 1
    assert images.std() > 0.05, "the test's images are too alike to test anything"


def test_the_class_changes_the_image_and_truncation_its_spread() -> None:
    vae = make_vae()
    one, other = (draw_classes(vae, torch.full((40,), label), truncation=0.5) for label in (0, 1))
    assert (one - other).abs().max() > 0.05
    wide = draw_classes(vae, torch.full((40,), 0), truncation=1.0)
    assert one.std(0).mean() < wide.std(0).mean()


def test_a_row_of_a_batch_is_the_row_alone() -> None:
    vae = make_vae().double()
    latent = torch.randn(4, SHAPE.latent_size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    together = vae.log_likelihood(PICTURES, latent)
    means = vae.encode(PICTURES).mean
    for i in range(4):
        assert torch.allclose(vae.log_likelihood(PICTURES[i : i + 1], latent[i : i + 1])[0], together[i], atol=1e-8)
        assert torch.allclose(vae.encode(PICTURES[i : i + 1]).mean[0], means[i], atol=1e-12, rtol=0)


def test_saved_weights_are_half_precision_and_load_to_the_same_images(tmp_path: Path) -> None:
    vae = make_vae().half().float()  # what half precision keeps
    save_model(vae, SHAPE, tmp_path)
    assert {weight.dtype for weight in load_file(tmp_path / WEIGHTS).values()} == {torch.float16}
    again = load_vae(tmp_path)
    assert not again.training
    for name, weight in vae.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
    assert torch.allclose(draw_classes(vae, CLASSES), draw_classes(again, CLASSES), atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_lower_precision_draws_and_scores_nearly_the_same(folder: Path, dtype: str) -> None:
    exact = load_vae(folder)
    rough = load_model(ImageVae, ImageVaeConfig, folder, dtype=DTYPES[dtype], device=torch.device("cpu"))
    assert (draw_classes(exact, CLASSES) - draw_classes(rough, CLASSES)).abs().mean() < 0.05
    assert torch.allclose(scores(exact, PICTURES), scores(rough, PICTURES), rtol=0.05)


def test_latents_in_another_order_are_the_same_model(tmp_path: Path) -> None:
    split = read_split(make_data(tmp_path, count=20))
    vae = make_vae(SHAPE.model_copy(update={"components": 1}))
    told = information(vae, split)
    order = told.argsort(descending=True)
    other = reordered(vae, order)
    assert torch.allclose(other.encode(PICTURES).mean, vae.encode(PICTURES).mean[:, order], atol=1e-6)
    assert torch.allclose(reconstruct(other, PICTURES), reconstruct(vae, PICTURES), atol=1e-5)
    again = information(other, split)
    assert torch.allclose(again, told[order], rtol=1e-4)
    assert (again.diff() <= 1e-4).all()


def test_another_kind_of_model_is_refused(tmp_path: Path, folder: Path) -> None:
    text = (folder / CONFIG).read_text()
    (tmp_path / CONFIG).write_text(text.replace("castalia-image-vae", "castalia-gan"))
    with pytest.raises(UnsupportedModel, match="model_type"):
        load(tiny_config(tmp_path), tmp_path)


def test_images_are_no_records(folder: Path) -> None:
    with pytest.raises(UnsupportedModel, match="model_type"):
        load(record_config(folder), folder)


def test_weights_that_lack_a_tensor_are_refused(tmp_path: Path) -> None:
    save_model(make_vae(), SHAPE, tmp_path)
    wider = SHAPE.model_copy(update={"widths": (32, 16, 8)})
    (tmp_path / CONFIG).write_text(wider.model_dump_json())
    with pytest.raises(UnsupportedModel, match="do not fit"):
        load(tiny_config(tmp_path), tmp_path)


def test_a_loaded_model_says_what_it_does_and_counts_its_memory(loaded: LoadedModel) -> None:
    assert set(loaded.tasks) == set(ImageVaeModel.TASKS)
    assert loaded.limits == {"width": SIDE, "height": SIDE, "dimensions": 6, "max_batch_size": 64}
    assert loaded.revision == "local"
    assert loaded.memory > sum(parameter.nbytes for parameter in make_vae().parameters())


def test_memory_grows_with_the_batch(folder: Path) -> None:
    small, large = (load(tiny_config(folder, max_batch_size=rows), folder).memory for rows in (1, 128))
    assert large > small
