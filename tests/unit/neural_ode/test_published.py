"""Every published model keeps what its report says, measured on the sample that lies beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from services.families.neural_ode.images.drawing import Solver, draw_classes, load_flow
from services.families.neural_ode.images.evaluation import sample_figure as image_figure
from services.families.neural_ode.series.evaluation import load_latent_ode
from services.families.neural_ode.series.evaluation import sample_figure as series_figure
from services.training.distances import nearest_class
from services.training.held_out import read_held_out
from services.training.recipe import Figure
from tests.unit.training.published import measured_again, published

FOLDERS = published("neural_ode")


def measure(folder: Path) -> Figure:
    if folder.name == "series-ode":
        return series_figure(load_latent_ode(folder), folder)
    return image_figure(load_flow(folder), folder)


@pytest.mark.parametrize("name", FOLDERS)
def test_published_weights_score_on_their_sample_as_reported(name: str) -> None:
    again = measured_again(FOLDERS[name], "held_out.*", measure)
    assert again.baseline is not None
    assert again.value < again.baseline


def test_published_digits_look_like_the_digits_that_were_asked_for() -> None:
    folder = FOLDERS["digits-ode"]
    model = load_flow(folder)
    sample = read_held_out(folder, classes=10, channels=1)
    asked = torch.arange(20) % 10
    drawn = draw_classes(model, asked, Solver(steps=8))
    assert (nearest_class(drawn, sample.units(), sample.classes) == asked).float().mean() >= 0.5
