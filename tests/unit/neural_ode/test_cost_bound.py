"""What the gateway takes a request to cost at most is at least what its rows cost."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from services.families import LoadedModel
from shared.schemas.forecasts import ForecastRequest, Series
from shared.schemas.images import ImageGenerationRequest, InterpolationEnd, InterpolationRequest
from shared.schemas.scores import ScoreRequest
from tests.unit.neural_ode.test_image_tasks import grey
from tests.unit.neural_ode.tiny import image_config, series_config

END = InterpolationEnd(seed=1, prompt="zero")
SERIES = Series(values=[1.0, 3.0, 2.0, 4.0, 3.0], times=[0.0, 1.0, 2.5, 3.0, 4.5])


@pytest.mark.parametrize(
    ("task", "body"),
    [
        ("image", ImageGenerationRequest(model="tiny", prompt="zero", n=7)),
        ("image", ImageGenerationRequest(model="tiny", prompt="zero", steps=33)),
        ("interpolation", InterpolationRequest(model="tiny", start=END, end=END, frames=5, steps=3)),
        ("score", ScoreRequest(model="tiny", input=[grey(), grey()])),
        ("score", ScoreRequest(model="tiny", input=grey(), samples=3)),
    ],
)
def test_images_and_scores_cost_what_is_told(
    images: LoadedModel, image_folder: Path, task: str, body: BaseModel
) -> None:
    rows = images.tasks[task].prepare(body)
    assert image_config(image_folder).cost_bound(body, images.limits) == sum(row.cost for row in rows)


@pytest.mark.parametrize(
    "body",
    [
        ForecastRequest(model="tiny", input=SERIES, horizon=4),
        ForecastRequest(model="tiny", input=[SERIES, SERIES], horizon=20, samples=7),
        ForecastRequest(model="tiny", input=SERIES, times=[4.6, 4.7, 9.0, 49.0]),
    ],
)
def test_a_forecast_costs_at_most_what_is_told(series: LoadedModel, series_folder: Path, body: ForecastRequest) -> None:
    cost = sum(row.cost for row in series.tasks["forecast"].prepare(body))
    config = series_config(series_folder)
    assert cost <= config.cost_bound(body, series.limits) <= config.cost_bound(body, {}) * 2


def test_a_score_that_would_never_fit_a_batch_is_refused_at_start(image_folder: Path) -> None:
    with pytest.raises(ValidationError, match=r"samples \(4\) is over max_batch_size \(3\)"):
        image_config(image_folder, max_batch_size=3)
