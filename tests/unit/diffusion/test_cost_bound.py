"""What the gateway takes a request to cost at most is never less than what its rows cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.families import LoadedModel
from services.families.diffusion.family import load
from shared.config.diffusion import DiffusionModel
from shared.schemas.images import (
    ImageEditRequest,
    ImageGenerationRequest,
    ImageVariationRequest,
    InterpolationRequest,
)
from tests.unit.diffusion.pictures import data_url, gradient

PICTURE = data_url(gradient(16, 16))
ENDS = {"start": {"seed": 1, "prompt": "red"}, "end": {"seed": 2, "prompt": "blue"}}
TASKS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "image": (ImageGenerationRequest, {"prompt": "red"}),
    "edit": (ImageEditRequest, {"prompt": "red", "image": PICTURE}),
    "variation": (ImageVariationRequest, {"image": PICTURE}),
    "interpolation": (InterpolationRequest, ENDS),
}


def bound_and_cost(loaded: LoadedModel, config: DiffusionModel, task: str, **options: Any) -> tuple[float, float]:
    kind, fields = TASKS[task]
    body = kind.model_validate({"model": "tiny", **fields, **options})
    rows = loaded.tasks[task].prepare(body)
    return config.cost_bound(body, loaded.limits), sum(row.cost for row in rows)


@pytest.mark.parametrize("sampling", [{}, {"steps": 7}, {"guidance_scale": 1.0}])
@pytest.mark.parametrize("task", TASKS)
def test_no_request_costs_more_than_its_bound(folders: Callable[[str], Path], task: str, sampling: Any) -> None:
    config = DiffusionModel(id="tiny", source="file://tiny", sampling=sampling)
    loaded = load(config, folders("emoji"))
    many: dict[str, Any] = {"frames": 5} if task == "interpolation" else {"n": 3}
    for options in ({}, many, {"steps": 4}, {**many, "guidance_scale": 2.0}, {"guidance_scale": 1.0, "steps": 11}):
        bound, cost = bound_and_cost(loaded, config, task, **options)
        assert bound >= cost
        if task in ("image", "interpolation"):
            assert bound == cost, "a request for images says exactly what it costs"


def test_a_model_that_is_never_guided_puts_one_sample_into_a_step(folders: Callable[[str], Path]) -> None:
    config = DiffusionModel(id="tiny", source="file://tiny")
    loaded = load(config, folders("ddpm"))
    body = ImageGenerationRequest(model="tiny", prompt="", steps=6, n=2)
    assert config.cost_bound(body, loaded.limits) == 12


def test_before_the_first_report_the_usual_steps_and_guidance_count() -> None:
    config = DiffusionModel(id="tiny", source="file://tiny")
    assert config.cost_bound(ImageGenerationRequest(model="tiny", prompt="x", n=2), {}) == 200
