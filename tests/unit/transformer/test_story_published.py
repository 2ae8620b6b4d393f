"""The published story GPT keeps what its report says, measured on the sample that lies beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.families.transformer.stories.drawing import Storyteller
from services.families.transformer.stories.evaluation import SAMPLE, sample_figure
from services.families.transformer.stories.model import read_model
from services.training.report import read_report
from tests.unit.training.published import measured_again, published

BITS, PERPLEXITY = "bits_per_character", "perplexity_per_token"


@pytest.fixture(scope="module")
def folder() -> Path:
    return published("transformer")["story-gpt"]


def test_published_weights_score_on_their_sample_as_reported(folder: Path) -> None:
    again = measured_again(folder, SAMPLE, lambda folder: sample_figure(read_model(folder), folder))
    reported = {figure.name: figure for figure in read_report(folder).figures}
    assert again.baseline is not None
    assert again.value < 0.5 * again.baseline
    for name in (BITS, PERPLEXITY):
        assert reported[name].value < (reported[name].baseline or 0.0), f"{name}: n-grams tell stories as well"


def test_it_goes_on_in_the_voice_of_the_book_that_is_begun(folder: Path) -> None:
    teller = Storyteller(folder)
    (novel,) = teller.tell(["Elizabeth was too much surprised to"], 120, seed=1)
    (scripture,) = teller.tell(["And it came to pass in those days, that"], 120, seed=1)
    assert {"Mr", "Mrs", "Miss", "Lady", "Elizabeth"} & words(novel)
    assert {"Yahweh", "king", "God", "Israel", "Jews", "sons"} & words(scripture)


def words(text: str) -> set[str]:
    return set(re.findall(r"[A-Za-z]+", text))
