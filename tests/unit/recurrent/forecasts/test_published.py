"""The published forecaster keeps what its report says, measured on the sample that lies beside it."""

from __future__ import annotations

import pytest

from services.families.recurrent.forecasts.evaluation import load_forecaster, sample_figure
from services.families.recurrent.forecasts.recipe import ForecastLstmRecipe
from services.sources import verify
from services.training.publish import builtin_folder
from services.training.report import read_report


def test_published_weights_score_on_their_sample_as_reported_and_beat_seasonal_naive() -> None:
    folder = builtin_folder(ForecastLstmRecipe())
    verify(folder)
    assert (folder / "held_out.json").stat().st_size <= 100_000
    again = sample_figure(load_forecaster(folder), folder)
    reported = {figure.name: figure for figure in read_report(folder).figures}[again.name]
    assert again.value == pytest.approx(reported.value, abs=reported.tolerance)
    assert again.baseline is not None
    assert again.value < again.baseline
