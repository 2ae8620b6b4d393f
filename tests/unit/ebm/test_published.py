"""The published energy keeps what its report says, measured on the sample that lies beside it."""

from __future__ import annotations

import pytest
import torch

from services.families.ebm.drawing import draw_classes, load_energy
from services.families.ebm.evaluation import energy_figures
from services.sources import verify
from services.training.distances import nearest_class
from services.training.held_out import SAMPLE, read_held_out
from services.training.report import read_report
from tests.unit.training.published import published

_DRAWN_PER_CLASS = 4  # a chain takes dozens of gradients: a few images show that classes are drawn at all


def test_published_weights_score_on_their_sample_as_reported() -> None:
    for model, folder in published("ebm").items():
        verify(folder)
        assert (folder / SAMPLE).stat().st_size <= 100_000
        net = load_energy(folder)
        sample = read_held_out(folder, classes=len(net.config.classes), channels=net.config.channels)
        reported = {figure.name: figure for figure in read_report(folder).figures}
        for found in energy_figures(net, sample, sample):
            if found.name.startswith("sample_"):
                known = reported[found.name]
                assert found.value == pytest.approx(known.value, abs=known.tolerance), f"{model}: {found.name}"
        asked = torch.arange(len(net.config.classes)).repeat_interleave(_DRAWN_PER_CLASS)
        verdicts = nearest_class(draw_classes(net, asked), sample.units(), sample.classes)
        neighbour = reported["sample_neighbour_accuracy"]
        assert (verdicts == asked).float().mean().item() == pytest.approx(neighbour.value, abs=0.2), model
