"""Every published model keeps what its report says, measured on the recordings that lie beside it."""

from __future__ import annotations

from pathlib import Path

from services.families.autoregressive import sound_evaluation, word_evaluation
from services.families.autoregressive.clips import SAMPLE
from services.families.autoregressive.drawing import load_for_measuring
from services.training.recipe import Figure
from tests.unit.training.published import measured_again, published


def measure(folder: Path) -> Figure:
    model = load_for_measuring(folder)
    return (word_evaluation if model.config.kind == "speech" else sound_evaluation).sample_figure(model, folder)


def test_published_weights_score_on_their_sample_as_reported() -> None:
    for folder in published("autoregressive").values():
        measured_again(folder, SAMPLE, measure)
