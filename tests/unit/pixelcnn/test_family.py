"""The family's entry: what a folder of weights becomes, and which are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from services.families import LoadedModel, family_loader
from services.families.pixelcnn.family import load
from services.families.pixelcnn.tasks import METRIC, ScoreTask
from services.nn.errors import UnsupportedModel
from services.nn.percentiles import write_known
from services.nn.weights import CONFIG
from shared.config.models import FleetConfig
from shared.config.pixelcnn import PixelCnnImageModel, PixelCnnLevelModel
from tests.contract.driver import run_rows
from tests.unit.pixelcnn.test_tasks import image_rows
from tests.unit.pixelcnn.tiny import image_config, level_config, make_folder, make_model


def test_a_loaded_model_says_what_it_does_and_counts_its_memory(
    loaded: LoadedModel, loaded_levels: LoadedModel
) -> None:
    assert set(loaded.tasks) == set(PixelCnnImageModel.TASKS) == {"image", "edit", "score"}
    assert set(loaded_levels.tasks) == set(PixelCnnLevelModel.TASKS) == {"level"}
    assert loaded.limits == {"width": 6, "height": 6, "max_batch_size": 16, "classes": 3}
    assert loaded_levels.limits == {"width": 5, "height": 5, "max_batch_size": 16}
    assert loaded.revision == "local"
    assert loaded.memory > sum(parameter.nbytes for parameter in make_model().parameters())


def test_memory_grows_with_the_batch(folder: Path) -> None:
    small, large = (load(image_config(folder, max_batch_size=rows), folder).memory for rows in (1, 128))
    assert large > small


def test_a_model_of_another_kind_than_configured_is_refused(folder: Path, levels_folder: Path) -> None:
    with pytest.raises(UnsupportedModel, match="kind: level"):
        load(image_config(levels_folder), levels_folder)
    with pytest.raises(UnsupportedModel, match="draws images"):
        load(level_config(folder), folder)


def test_another_kind_of_weights_is_refused(tmp_path: Path, folder: Path) -> None:
    text = (folder / CONFIG).read_text()
    (tmp_path / CONFIG).write_text(text.replace("castalia-pixelcnn", "castalia-gan"))
    with pytest.raises(UnsupportedModel, match="model_type"):
        load(image_config(tmp_path), tmp_path)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    make_folder(tmp_path)
    wider = json.loads((tmp_path / CONFIG).read_text()) | {"features": 7}
    (tmp_path / CONFIG).write_text(json.dumps(wider))
    with pytest.raises(UnsupportedModel, match="do not fit"):
        load(image_config(tmp_path), tmp_path)


def test_what_scores_are_compared_with_is_read_where_it_is(tmp_path: Path, loaded: LoadedModel) -> None:
    make_folder(tmp_path)
    write_known(tmp_path, {METRIC: (torch.linspace(-9, 0, 20), torch.linspace(-8, 0, 20))})
    task = load(image_config(tmp_path), tmp_path).tasks["score"]
    without = loaded.tasks["score"]
    assert isinstance(task, ScoreTask)
    assert isinstance(without, ScoreTask)
    assert set(task.known) == {METRIC}
    assert not without.known


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_lower_precision_draws_too(folder: Path, dtype: str) -> None:
    model = load(image_config(folder, dtype=dtype), folder)
    run = run_rows(model.sampler, image_rows(model, seed=1))
    assert run.chunks(1)[0].pixels.shape == (6, 6, 1)


def test_models_yaml_tells_images_and_levels_apart() -> None:
    models = [
        {"id": "a", "source": "builtin://a", "kind": "image"},
        {"id": "b", "source": "builtin://b", "kind": "level"},
    ]
    config = FleetConfig.model_validate({"services": [{"name": "p", "family": "pixelcnn", "models": models}]})
    images, levels = config.hosted[0].models
    assert images.does == ("image", "edit", "score")
    assert levels.does == ("level",)
    assert isinstance(levels, PixelCnnLevelModel)


def test_the_table_of_families_leads_here() -> None:
    assert family_loader("pixelcnn") is load
