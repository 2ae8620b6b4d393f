"""What the gateway takes a request to cost at most is what its rows cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from services.families import LoadedModel
from shared.schemas.embeddings import EmbeddingRequest
from shared.schemas.images import ImageGenerationRequest, ImageVariationRequest, InterpolationEnd, InterpolationRequest
from shared.schemas.reconstructions import ReconstructionRequest
from shared.schemas.records import RecordGenerationRequest
from shared.schemas.scores import ScoreRequest
from tests.record_tables import make_records
from tests.unit.vae.tiny import data_url, make_picture, record_config, tiny_config

END = InterpolationEnd(seed=1, prompt="zero")
IMAGE = data_url(make_picture())
IMAGES: dict[str, Any] = {"model": "tiny-vae", "input": [IMAGE, IMAGE]}
RECORDS: dict[str, Any] = {"model": "tiny-records", "input": make_records(3)}
BOUND = "importance_weighted_bound"


@pytest.mark.parametrize(
    ("task", "body"),
    [
        ("image", ImageGenerationRequest(model="tiny-vae", prompt="zero", n=7)),
        ("variation", ImageVariationRequest(model="tiny-vae", image=IMAGE, n=3)),
        ("interpolation", InterpolationRequest(model="tiny-vae", start=END, end=END, frames=5)),
        ("embedding", EmbeddingRequest(**IMAGES)),
        ("reconstruction", ReconstructionRequest(**IMAGES)),
        ("score", ScoreRequest(**IMAGES)),
        ("score", ScoreRequest(**IMAGES, samples=5)),
        ("score", ScoreRequest(**IMAGES, metric=BOUND)),
    ],
)
def test_images_cost_a_pass_and_scores_one_a_draw(
    loaded: LoadedModel, folder: Path, task: str, body: BaseModel
) -> None:
    rows = loaded.tasks[task].prepare(body)
    assert tiny_config(folder).cost_bound(body, loaded.limits) == sum(row.cost for row in rows)


@pytest.mark.parametrize(
    ("task", "body"),
    [
        ("record", RecordGenerationRequest(model="tiny-records", n=9)),
        ("embedding", EmbeddingRequest(**RECORDS)),
        ("reconstruction", ReconstructionRequest(**RECORDS)),
        ("score", ScoreRequest(**RECORDS)),
        ("score", ScoreRequest(**RECORDS, metric=BOUND, samples=7)),
    ],
)
def test_records_cost_alike(record_loaded: LoadedModel, record_folder: Path, task: str, body: BaseModel) -> None:
    rows = record_loaded.tasks[task].prepare(body)
    assert record_config(record_folder).cost_bound(body, record_loaded.limits) == sum(row.cost for row in rows)
