"""Every published generator keeps what its report says, measured on the sample that lies beside it."""

from __future__ import annotations

import pytest

from services.families.gan.family import load
from services.families.gan.held_out import SAMPLE, read_held_out, sample_scores
from services.families.gan.sampler import OneShotSampler
from services.sources import verify
from services.training.report import read_report
from tests.unit.gan.tiny import tiny_config
from tests.unit.training.published import published


def test_published_weights_score_on_their_sample_as_reported() -> None:
    for model, folder in published("gan").items():
        verify(folder)
        assert (folder / SAMPLE).stat().st_size <= 100_000
        sampler = load(tiny_config(folder), folder).sampler
        assert isinstance(sampler, OneShotSampler)
        scores = sample_scores(sampler.generator, read_held_out(folder, sampler.generator.config))
        reported = {figure.name: figure for figure in read_report(folder).figures}
        for name, score in (("sample_frechet_distance", "frechet"), ("sample_neighbour_accuracy", "neighbour")):
            figure = reported[name]
            assert scores[score] == pytest.approx(figure.value, abs=figure.tolerance), f"{model}: {name}"
