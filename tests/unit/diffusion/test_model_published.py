"""Every published emoji model keeps what its report says, and what the one that is served promises."""

from __future__ import annotations

import pytest

from services.families.diffusion.evaluation_sample import SAMPLE, score_sample
from services.sources import verify
from services.training.report import read_report
from tests.unit.training.published import published, served


def test_published_weights_score_on_their_sample_as_reported() -> None:
    for model, folder in published("diffusion").items():
        verify(folder)
        assert (folder / SAMPLE).stat().st_size <= 100_000
        score = score_sample(folder)
        reported = {figure.name: figure for figure in read_report(folder).figures}
        for name, value in (("sample_flow_loss", score.loss), ("sample_picked", score.picked)):
            figure = reported[name]
            assert value == pytest.approx(figure.value, abs=figure.tolerance), f"{model}: {name}"


def test_served_models_draw_what_is_asked_also_in_pairs_that_they_never_saw() -> None:
    """At least half of 200 training names, by both judges; held-out pairs more often than by chance."""
    folders = published("diffusion")
    for model in served("diffusion"):
        figures = {figure.name: figure for figure in read_report(folders[model]).figures}
        for judge in ("picked_by_pixels", "picked_by_classifier"):
            assert figures[judge].meaning.startswith("200 prompts")
            assert figures[judge].value >= 0.5, f"{model}: {judge}"
        for name in ("recombined", "recombined_colour", "recombined_shape"):
            baseline = figures[name].baseline
            assert baseline is not None
            assert figures[name].value > baseline, f"{model}: {name}"
