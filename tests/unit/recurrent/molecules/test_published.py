"""The published model keeps what its report says, measured on the sample that lies beside it."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer

from services.families.recurrent.language import TOKENIZER, load_net
from services.families.recurrent.molecules.drawing import draw_smiles
from services.families.recurrent.molecules.evaluation import SAMPLE, TEMPERATURE, sample_figure
from services.families.recurrent.molecules.measures import Drawn
from services.training.report import read_report
from tests.unit.training.published import measured_again, published

FOLDER = published("recurrent").get("molecules-lstm")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="molecules-lstm is not published")


def test_published_weights_score_on_their_sample_as_reported() -> None:
    assert FOLDER is not None
    again = measured_again(FOLDER, SAMPLE, lambda folder: sample_figure(load_net(folder), folder))
    assert again.baseline is not None
    assert again.value < 0.5 * again.baseline


def test_most_that_it_draws_are_molecules_and_different() -> None:
    assert FOLDER is not None
    tokenizer = Tokenizer.from_file(str(FOLDER / TOKENIZER))
    drawn = Drawn.of(draw_smiles(load_net(FOLDER), tokenizer, 200, seed=1, temperature=TEMPERATURE))
    assert drawn.validity >= 0.85
    assert drawn.unique(200) >= 0.95


def test_the_report_shows_what_was_promised() -> None:
    assert FOLDER is not None
    values = {figure.name: figure.value for figure in read_report(FOLDER).figures}
    assert values["valid"] >= 0.9
    assert values["unique_at_10k"] >= 0.95
