"""The published model keeps what its report says, measured on the sample that lies beside it."""

from __future__ import annotations

from services.families.recurrent.music.drawing import Musician
from services.families.recurrent.music.evaluation import sample_figure
from services.families.recurrent.music.held_out import SAMPLE
from services.families.recurrent.music.recipe import DancesGru
from services.training.publish import builtin_folder
from services.training.report import read_report
from tests.unit.training.published import measured_again


def test_published_weights_score_on_their_sample_as_reported_and_beat_their_baselines() -> None:
    folder = builtin_folder(DancesGru())
    measured_again(folder, SAMPLE, lambda folder: sample_figure(Musician.load(folder), folder))
    reported = {figure.name: figure for figure in read_report(folder).figures}
    for name in ("bits_per_note", "genre_told", "genre_in_four_four_told", "bars_add_up", "ends_on_tonic"):
        figure = reported[name]
        assert figure.baseline is not None
        better = figure.value > figure.baseline if figure.better == "higher" else figure.value < figure.baseline
        assert better, name
    assert reported["valid"].value > 0.99
