"""What the gateway takes a request to cost at most is what its rows cost."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from services.families import LoadedModel
from shared.schemas.embeddings import EmbeddingRequest
from shared.schemas.images import ImageGenerationRequest, InterpolationEnd, InterpolationRequest
from shared.schemas.scores import ScoreRequest
from tests.unit.flow.tiny import IMAGE, OTHER, tiny_config

SEEDED = InterpolationEnd(seed=1, prompt="zero")
GIVEN, NAMED = InterpolationEnd(image=IMAGE), InterpolationEnd(image=IMAGE, prompt="zero")


@pytest.mark.parametrize(
    ("task", "body", "passes"),
    [
        ("image", ImageGenerationRequest(model="tiny-flow", prompt="zero"), 1),
        ("image", ImageGenerationRequest(model="tiny-flow", prompt="zero", n=7), 7),
        ("interpolation", InterpolationRequest(model="tiny-flow", start=SEEDED, end=SEEDED, frames=5), 5),
        ("interpolation", InterpolationRequest(model="tiny-flow", start=SEEDED, end=GIVEN, frames=5), 20),
        ("interpolation", InterpolationRequest(model="tiny-flow", start=NAMED, end=GIVEN, frames=5), 25),
        ("score", ScoreRequest(model="tiny-flow", input=[IMAGE, OTHER]), 6),
        ("score", ScoreRequest(model="tiny-flow", input=IMAGE, prompt="zero"), 1),
        ("embedding", EmbeddingRequest(model="tiny-flow", input=[IMAGE, OTHER]), 6),
    ],
)
def test_a_request_costs_its_passes(loaded: LoadedModel, folder: Path, task: str, body: BaseModel, passes: int) -> None:
    rows = loaded.tasks[task].prepare(body)
    assert tiny_config(folder).cost_bound(body, loaded.limits) == sum(row.cost for row in rows) == passes


def test_before_its_first_report_a_model_counts_as_one_of_ten_classes(folder: Path) -> None:
    assert tiny_config(folder).cost_bound(ScoreRequest(model="tiny-flow", input=IMAGE), {}) == 10
