"""Every published model keeps what its report says, measured on the recordings that lie beside it."""

from __future__ import annotations

import pytest

from services.families.autoregressive import sound_evaluation, word_evaluation
from services.families.autoregressive.clips import SAMPLE
from services.families.autoregressive.drawing import load_for_measuring
from services.sources import verify
from services.training.report import read_report
from tests.unit.training.published import published


def test_published_weights_score_on_their_sample_as_reported() -> None:
    for name, folder in published("autoregressive").items():
        verify(folder)
        model = load_for_measuring(folder)
        assert (folder / SAMPLE).stat().st_size <= 100_000
        is_speech = model.config.kind == "speech"
        found = (word_evaluation if is_speech else sound_evaluation).sample_figure(model, folder)
        reported = {figure.name: figure for figure in read_report(folder).figures}[found.name]
        assert found.value == pytest.approx(reported.value, abs=reported.tolerance), name
