"""What the gateway takes a request to cost at most is never less than what its rows cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.families import LoadedModel
from tests.unit.boltzmann.test_tasks import FIELDS, KINDS
from tests.unit.boltzmann.tiny import data_url, picture, tiny_config

IMAGES = [data_url(picture(3, seed)) for seed in range(4)]


@pytest.mark.parametrize(
    ("task", "fields"),
    [
        ("image", {}),
        ("image", {"n": 7, "steps": 30}),
        ("edit", {"n": 2}),
        ("reconstruction", {"input": IMAGES}),
        ("reconstruction", {"input": IMAGES, "steps": 12}),
        ("embedding", {"input": IMAGES}),
        ("score", {"input": IMAGES, "metric": "pseudo_log_likelihood", "samples": 5}),
    ],
)
def test_a_request_costs_its_sweeps_or_a_pass_an_image(
    loaded: LoadedModel, folder: Path, task: str, fields: dict[str, Any]
) -> None:
    body = KINDS[task].model_validate({"model": "tiny-machine", **FIELDS.get(task, {}), **fields})
    rows = loaded.tasks[task].prepare(body)
    assert tiny_config(folder).cost_bound(body, loaded.limits) == sum(row.cost for row in rows)


@pytest.mark.parametrize("metric", [None, "free_energy", "pseudo_log_likelihood"])
def test_a_score_costs_no_more_than_its_bound(loaded: LoadedModel, folder: Path, metric: str | None) -> None:
    body = KINDS["score"].model_validate({"model": "tiny-machine", "input": IMAGES, "metric": metric})
    rows = loaded.tasks["score"].prepare(body)
    assert tiny_config(folder).cost_bound(body, loaded.limits) >= sum(row.cost for row in rows)
