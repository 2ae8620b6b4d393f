"""Every published generator keeps what its report says, measured on the sample that lies beside it."""

from __future__ import annotations

import pytest

from services.families.gan.drawing import draw_classes, load_generator
from services.sources import verify
from services.training.held_out import SAMPLE, read_held_out, sample_scores
from services.training.report import read_report
from tests.unit.training.published import published


def test_published_weights_score_on_their_sample_as_reported() -> None:
    for model, folder in published("gan").items():
        verify(folder)
        assert (folder / SAMPLE).stat().st_size <= 100_000
        generator = load_generator(folder)
        sample = read_held_out(folder, classes=len(generator.config.classes), channels=generator.config.channels)
        scores = sample_scores(lambda classes, g=generator: draw_classes(g, classes)[0], sample)
        reported = {figure.name: figure for figure in read_report(folder).figures}
        for name, score in (("sample_frechet_distance", "frechet"), ("sample_neighbour_accuracy", "neighbour")):
            figure = reported[name]
            assert scores[score] == pytest.approx(figure.value, abs=figure.tolerance), f"{model}: {name}"
