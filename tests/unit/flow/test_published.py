"""Every published flow keeps what its report says, measured on the sample that lies beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from services.families.flow.drawing import bits_per_dimension, dequantised, draw_classes, load_flow, marginal
from services.families.flow.record_bulk import draw_records, load_record_flow, score_records
from services.families.flow.tasks import GIVEN_CLASS, METRIC
from services.nn.percentiles import read_known
from services.nn.weights import CONFIG
from services.sources import verify
from services.training.held_out import SAMPLE, read_held_out, sample_scores
from services.training.record_data import read_sample
from services.training.record_figures import sample_record_figures
from services.training.report import read_report
from tests.unit.training.published import published


def test_published_images_and_likelihoods_are_as_reported() -> None:
    for model, folder in of_kind("castalia-image-flow").items():
        assert (folder / SAMPLE).stat().st_size <= 100_000
        flow = load_flow(folder)
        sample = read_held_out(folder, classes=len(flow.config.classes), channels=1)
        scores = sample_scores(lambda classes, f=flow: draw_classes(f, classes), sample)
        bits = bits_per_dimension(marginal(flow, dequantised(sample.images)), flow.config.dimensions)
        check(
            model,
            folder,
            {
                "sample_bits_per_dimension": bits,
                "sample_frechet_distance": scores["frechet"],
                "sample_neighbour_accuracy": scores["neighbour"],
            },
        )
        assert set(read_known(folder, (METRIC, GIVEN_CLASS))) == {METRIC, GIVEN_CLASS}


def test_published_records_and_likelihoods_are_as_reported() -> None:
    for model, folder in of_kind("castalia-record-flow").items():
        flow = load_record_flow(folder)
        sample = read_sample(flow.config.table, folder)
        measured = sample_record_figures(
            lambda count, f=flow: draw_records(f, count),
            lambda entries, f=flow: score_records(f, entries),
            flow.config.table,
            sample,
        )
        values = {figure.name: figure.value for figure in measured}
        check(model, folder, {**values, "sample_log_likelihood": score_records(flow, sample).mean().item()})
        assert set(read_known(folder, (METRIC,))) == {METRIC}


def of_kind(kind: str) -> dict[str, Path]:
    """The published folders of models of a kind, their files verified."""
    folders = {model: folder for model, folder in published("flow").items() if kind in (folder / CONFIG).read_text()}
    for folder in folders.values():
        verify(folder)
    return folders


def check(model: str, folder: Path, measured: Mapping[str, float]) -> None:
    reported = {figure.name: figure for figure in read_report(folder).figures}
    for name, value in measured.items():
        assert value == pytest.approx(reported[name].value, abs=reported[name].tolerance), f"{model}: {name}"
