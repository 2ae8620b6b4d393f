"""Every published autoencoder keeps what its report says, measured on the sample that lies beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.families.vae.image_bulk import draw_classes, load_vae
from services.families.vae.image_evaluation import sample_bits
from services.families.vae.record_bulk import load_record_vae
from services.families.vae.record_evaluation import sample_figures
from services.sources import verify
from services.training.held_out import read_held_out
from services.training.image_figures import sample_figures as image_sample_figures
from services.training.recipe import Figure
from services.training.record_data import SAMPLE, read_sample
from services.training.report import read_report
from tests.unit.training.published import published


def image_figures(folder: Path) -> list[Figure]:
    vae = load_vae(folder)
    sample = read_held_out(folder, classes=len(vae.config.classes), channels=vae.config.channels)
    return [*image_sample_figures(lambda classes: draw_classes(vae, classes), sample), sample_bits(vae, sample)]


def test_published_weights_score_on_their_sample_as_reported() -> None:
    for model, folder in published("vae").items():
        verify(folder)
        if (folder / SAMPLE).exists():
            records = load_record_vae(folder)
            figures = list(sample_figures(records, read_sample(records.config.table, folder)))
        else:
            figures = image_figures(folder)
        reported = {figure.name: figure for figure in read_report(folder).figures}
        for found in figures:
            figure = reported[found.name]
            assert found.value == pytest.approx(figure.value, abs=figure.tolerance), f"{model}: {found.name}"
