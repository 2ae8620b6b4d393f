"""Every published model keeps what its report says, measured on the sample that lies beside it."""

from __future__ import annotations

from pathlib import Path

from services.families.pixelcnn import evaluation, level_evaluation
from services.families.pixelcnn.drawing import load_for_measuring
from services.families.pixelcnn.level_data import SAMPLE as LEVEL_SAMPLE
from services.training.held_out import SAMPLE
from services.training.recipe import Figure
from tests.unit.training.published import measured_again, published


def measure(folder: Path) -> Figure:
    model = load_for_measuring(folder)
    return (level_evaluation if model.config.kind == "level" else evaluation).sample_figure(model, folder)


def test_published_weights_score_on_their_sample_as_reported() -> None:
    for folder in published("pixelcnn").values():
        is_level = load_for_measuring(folder).config.kind == "level"
        measured_again(folder, LEVEL_SAMPLE if is_level else SAMPLE, measure)
