"""The published forecaster keeps what its report says, measured on the sample that lies beside it."""

from __future__ import annotations

from services.families.recurrent.forecasts.evaluation import load_forecaster, sample_figure
from services.families.recurrent.forecasts.recipe import ForecastLstmRecipe
from services.training.publish import builtin_folder
from tests.unit.training.published import measured_again


def test_published_weights_score_on_their_sample_as_reported_and_beat_seasonal_naive() -> None:
    folder = builtin_folder(ForecastLstmRecipe())
    again = measured_again(folder, "held_out.json", lambda folder: sample_figure(load_forecaster(folder), folder))
    assert again.baseline is not None
    assert again.value < again.baseline
