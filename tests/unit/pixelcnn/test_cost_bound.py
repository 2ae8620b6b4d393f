"""What the gateway takes a request to cost at most is what its rows cost."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from services.families import LoadedModel
from shared.schemas.images import ImageEditRequest, ImageGenerationRequest
from shared.schemas.levels import LevelGenerationRequest
from shared.schemas.scores import ScoreRequest
from tests.unit.pixelcnn.test_tasks import FREE_BELOW
from tests.unit.pixelcnn.tiny import data_url, image_config, level_config, some_pixels

PICTURE = data_url(some_pixels())


@pytest.mark.parametrize(
    ("task", "body"),
    [
        ("image", ImageGenerationRequest(model="m", prompt="0")),
        ("image", ImageGenerationRequest(model="m", prompt="0", n=7)),
        ("edit", ImageEditRequest(model="m", prompt="", n=2, image=PICTURE, mask=data_url(FREE_BELOW))),
        ("score", ScoreRequest(model="m", input=[PICTURE] * 3)),
        ("score", ScoreRequest(model="m", input=PICTURE, prompt=" ")),
        ("score", ScoreRequest(model="m", input=[PICTURE] * 3, prompt="one")),
    ],
)
def test_a_row_of_pixels_or_a_pass_for_a_class_is_the_unit(
    loaded: LoadedModel, folder: Path, task: str, body: BaseModel
) -> None:
    rows = loaded.tasks[task].prepare(body)
    assert image_config(folder).cost_bound(body, loaded.limits) == sum(row.cost for row in rows)


@pytest.mark.parametrize(
    "body", [LevelGenerationRequest(model="m"), LevelGenerationRequest(model="m", n=5, attempts=3)]
)
def test_a_level_may_take_all_its_attempts(
    loaded_levels: LoadedModel, levels_folder: Path, body: LevelGenerationRequest
) -> None:
    rows = loaded_levels.tasks["level"].prepare(body)
    bound = level_config(levels_folder).cost_bound(body, loaded_levels.limits)
    assert bound == sum(row.cost for row in rows) == 5 * body.n * body.attempts


def test_before_a_model_reports_its_size_the_usual_one_counts(folder: Path, levels_folder: Path) -> None:
    assert image_config(folder).cost_bound(ImageGenerationRequest(model="m", prompt=""), {}) == 28
    assert level_config(levels_folder).cost_bound(LevelGenerationRequest(model="m", attempts=1), {}) == 28
