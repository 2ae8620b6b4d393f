"""What the gateway takes a request to cost at most is what its rows cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.families import LoadedModel
from shared.config.ebm import USUAL_STEPS
from shared.schemas.images import ImageGenerationRequest, ImageVariationRequest
from shared.schemas.scores import ScoreRequest
from tests.unit.ebm.tiny import picture, tiny_config

CASES = [
    ("image", ImageGenerationRequest, {"prompt": "zero"}),
    ("image", ImageGenerationRequest, {"prompt": "zero", "n": 7}),
    ("image", ImageGenerationRequest, {"prompt": "zero", "n": 2, "steps": 31}),
    ("variation", ImageVariationRequest, {"image": picture(), "steps": 20, "strength": 1.0}),
    ("score", ScoreRequest, {"input": picture()}),
    ("score", ScoreRequest, {"input": [picture(1), picture(2), picture(3)]}),
]


@pytest.mark.parametrize(("task", "kind", "fields"), CASES)
def test_the_bound_is_what_the_rows_cost(
    loaded: LoadedModel, folder: Path, task: str, kind: type[Any], fields: dict[str, Any]
) -> None:
    body = kind.model_validate({"model": "tiny-ebm", **fields})
    rows = loaded.tasks[task].prepare(body)
    assert tiny_config(folder).cost_bound(body, loaded.limits) == sum(row.cost for row in rows)


def test_the_bound_holds_before_the_model_is_known_and_for_weak_variations(loaded: LoadedModel, folder: Path) -> None:
    config = tiny_config(folder)
    assert config.cost_bound(ImageGenerationRequest(model="tiny-ebm", prompt="0", n=2), {}) == 2 * USUAL_STEPS
    weak = ImageVariationRequest(model="tiny-ebm", image=picture(), strength=0.25)
    assert config.cost_bound(weak, loaded.limits) > sum(row.cost for row in loaded.tasks["variation"].prepare(weak))
