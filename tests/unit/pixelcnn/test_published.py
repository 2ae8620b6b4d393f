"""Every published model keeps what its report says, measured on the sample that lies beside it."""

from __future__ import annotations

import pytest

from services.families.pixelcnn import evaluation, level_evaluation
from services.families.pixelcnn.drawing import load_for_measuring
from services.families.pixelcnn.level_data import SAMPLE as LEVEL_SAMPLE
from services.sources import verify
from services.training.held_out import SAMPLE
from services.training.report import read_report
from tests.unit.training.published import published


def test_published_weights_score_on_their_sample_as_reported() -> None:
    for name, folder in published("pixelcnn").items():
        verify(folder)
        model = load_for_measuring(folder)
        is_level = model.config.kind == "level"
        assert (folder / (LEVEL_SAMPLE if is_level else SAMPLE)).stat().st_size <= 100_000
        measure = level_evaluation.sample_figure if is_level else evaluation.sample_figure
        found = measure(model, folder)
        reported = {figure.name: figure for figure in read_report(folder).figures}[found.name]
        assert found.value == pytest.approx(reported.value, abs=reported.tolerance), name
