"""The flow's files, and what serving loads of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from services.families import LoadedModel
from services.families.flow.details import DetailConfig
from services.families.flow.drawing import draw_classes, load_flow
from services.families.flow.family import load
from services.families.flow.model import one_hot
from services.nn.errors import UnsupportedModel
from services.nn.percentiles import SCORES
from services.nn.weights import CONFIG, WEIGHTS, save_model
from tests.unit.flow.tiny import SHAPE, make_flow, make_folder, some_images, tiny_config


def test_images_have_the_configured_shape_and_range() -> None:
    images = draw_classes(make_flow(), torch.tensor([0, 1, 2, 0]))
    assert images.shape == (4, 1, 8, 8)
    assert images.abs().max() <= 1
    assert images.std() > 0.05, "the test's images are too alike to test anything"


def test_a_row_of_a_batch_is_the_row_alone() -> None:
    flow = make_flow().double()
    values = some_images(5).double() + 0.5
    weights = one_hot(torch.tensor([0, 1, 2, 0, 1]), 3).double()
    z, log_det = flow(values, weights)
    back = flow.inverse(z, weights)
    for i in range(5):
        row = slice(i, i + 1)
        alone_z, alone_log_det = flow(values[row], weights[row])
        assert torch.allclose(alone_z[0], z[i], atol=1e-10, rtol=0)
        assert torch.allclose(alone_log_det[0], log_det[i], atol=1e-10, rtol=0)
        assert torch.allclose(flow.inverse(z[row], weights[row])[0], back[i], atol=1e-9, rtol=0)


def test_the_class_changes_the_image() -> None:
    images = draw_classes(make_flow(), torch.tensor([0, 1, 2]), temperature=1e-6)
    assert (images[0] - images[1]).abs().max() > 0.05
    assert (images[1] - images[2]).abs().max() > 0.05


def test_saved_weights_are_half_precision_and_load_to_the_same_likelihoods(tmp_path: Path) -> None:
    flow = make_flow().half().float()  # what half precision keeps
    save_model(flow, SHAPE, tmp_path)
    kinds = {weight.dtype for weight in load_file(tmp_path / WEIGHTS).values()}
    assert kinds <= {torch.float16, torch.bool, torch.int64}
    again = load_flow(tmp_path)
    assert not again.training
    values, weights = some_images(3) + 0.5, one_hot(torch.arange(3), 3)
    nats = [each.log_likelihood(values, weights).tolist() for each in (flow, again)]
    assert nats[0] == pytest.approx(nats[1], rel=1e-5)


def test_another_kind_of_model_is_refused(tmp_path: Path, folder: Path) -> None:
    text = (folder / CONFIG).read_text()
    (tmp_path / CONFIG).write_text(text.replace("castalia-image-flow", "castalia-gan"))
    with pytest.raises(UnsupportedModel, match="model_type"):
        load(tiny_config(tmp_path), tmp_path)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    save_model(make_flow(), SHAPE, tmp_path)
    (tmp_path / CONFIG).write_text(
        SHAPE.model_copy(update={"scales": (DetailConfig(width=6, couplings=3),) * 2}).model_dump_json()
    )
    with pytest.raises(UnsupportedModel, match="do not fit"):
        load(tiny_config(tmp_path), tmp_path)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_lower_precision_is_refused_in_the_configuration(folder: Path, dtype: str) -> None:
    with pytest.raises(ValidationError):
        tiny_config(folder, dtype=dtype)


def test_a_loaded_model_says_what_it_does_and_counts_its_memory(loaded: LoadedModel, folder: Path) -> None:
    assert set(loaded.tasks) == set(tiny_config(folder).TASKS) == {"image", "interpolation", "score", "embedding"}
    assert loaded.limits == {"width": 8, "height": 8, "classes": 3, "dimensions": 64, "max_batch_size": 64}
    assert loaded.revision == "local"
    assert loaded.memory > sum(parameter.nbytes for parameter in make_flow().parameters())


def test_memory_grows_with_the_batch(folder: Path) -> None:
    small, large = (load(tiny_config(folder, max_batch_size=rows), folder).memory for rows in (1, 128))
    assert large > small


def test_a_model_without_known_scores_gives_no_percentiles(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / SCORES).unlink()
    known = load(tiny_config(tmp_path), tmp_path).tasks["score"]
    assert getattr(known, "known") == {}  # noqa: B009 - a field of this family's task
