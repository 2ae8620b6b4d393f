"""What the gateway takes a request to cost at most is what its rows cost."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from services.families import LoadedModel
from shared.schemas.images import ImageGenerationRequest, InterpolationEnd, InterpolationRequest
from tests.unit.gan.tiny import tiny_config

END = InterpolationEnd(seed=1, prompt="zero")


@pytest.mark.parametrize(
    ("task", "body"),
    [
        ("image", ImageGenerationRequest(model="tiny-gan", prompt="zero")),
        ("image", ImageGenerationRequest(model="tiny-gan", prompt="zero", n=7)),
        ("interpolation", InterpolationRequest(model="tiny-gan", start=END, end=END, frames=5)),
    ],
)
def test_an_image_costs_a_pass(loaded: LoadedModel, folder: Path, task: str, body: BaseModel) -> None:
    rows = loaded.tasks[task].prepare(body)
    assert tiny_config(folder).cost_bound(body, loaded.limits) == sum(row.cost for row in rows)
