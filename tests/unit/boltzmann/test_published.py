"""Every published machine keeps what its report says, measured on the sample that lies beside it."""

from __future__ import annotations

import pytest
import torch

from services.families.boltzmann.bulk import log_likelihoods, read_all
from services.families.boltzmann.model import binary, load_machine
from services.families.boltzmann.reading import Reader
from services.families.boltzmann.scores import known_names, measures_of
from services.nn.percentiles import read_known
from services.sources import verify
from services.training.held_out import SAMPLE, read_held_out
from services.training.report import read_report
from tests.unit.training.published import published


def test_published_weights_score_on_their_sample_as_reported() -> None:
    for model, folder in published("boltzmann").items():
        verify(folder)
        assert (folder / SAMPLE).stat().st_size <= 100_000
        machine = load_machine(folder, torch.device("cpu"))
        sample = read_held_out(folder, classes=len(machine.config.classes), channels=1)
        reader = Reader(machine)
        score = log_likelihoods(reader, read_all(reader, binary(sample.images)).evidence).mean().item()
        reported = {figure.name: figure for figure in read_report(folder).figures}
        figure = reported["sample_log_likelihood"]
        assert score == pytest.approx(figure.value, abs=figure.tolerance), model
        names = known_names(measures_of(machine.config))
        assert read_known(folder, names).keys() == set(names)
