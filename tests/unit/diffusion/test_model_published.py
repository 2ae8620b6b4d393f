"""Every published emoji model keeps what its report says, measured on the sample that lies beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.families import diffusion
from services.families.diffusion import emoji_checkpoint
from services.families.diffusion.evaluation_sample import SAMPLE, score_sample
from services.sources import verify
from services.training.report import read_report

WEIGHTS = Path(diffusion.__file__).parent / "weights"
PUBLISHED = sorted(
    path.parent
    for path in WEIGHTS.glob("*/config.json")
    if json.loads(path.read_text())["model_type"] == emoji_checkpoint.MODEL_TYPE
)


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_published_weights_score_on_their_sample_as_reported(folder: Path) -> None:
    verify(folder)
    assert (folder / SAMPLE).stat().st_size <= 100_000
    score = score_sample(folder)
    reported = {figure.name: figure for figure in read_report(folder).figures}
    for name, value in (("sample_flow_loss", score.loss), ("sample_picked", score.picked)):
        assert value == pytest.approx(reported[name].value, abs=reported[name].tolerance), name
