"""Every published model of verse keeps what its report says, measured on the sample that lies beside it."""

from __future__ import annotations

import pytest

from services.families.recurrent.family import load
from services.families.recurrent.language import load_net
from services.families.recurrent.text.evaluation import BITS, SAMPLE, sample_figure
from services.families.recurrent.text.samples import poems
from services.families.recurrent.text.tokens import byte_ids
from services.nn.text.params import GenerateParams, SamplingOptions
from services.training.report import read_report
from tests.contract.driver import bare_loop, run_rows
from tests.unit.recurrent.tiny import text_config
from tests.unit.training.published import measured_again, published

FOLDERS = {name: folder for name, folder in published("recurrent").items() if name.startswith("verse-")}


@pytest.mark.parametrize("name", FOLDERS)
def test_published_weights_score_on_their_sample_as_reported(name: str) -> None:
    again = measured_again(FOLDERS[name], SAMPLE, lambda folder: sample_figure(load_net(folder), folder))
    assert again.baseline is not None
    assert again.value < again.baseline


def test_gates_tell_verse_better_than_n_grams_do_and_than_a_net_without_them() -> None:
    lstm, rnn = (
        {figure.name: figure for figure in read_report(FOLDERS[name]).figures}[BITS]
        for name in ("verse-lstm", "verse-rnn")
    )
    assert lstm.value < rnn.value
    assert lstm.value < (lstm.baseline or 0.0)


@pytest.mark.parametrize("name", FOLDERS)
def test_published_models_write_lines_of_words(name: str) -> None:
    (poem,) = poems(load_net(FOLDERS[name]), ["The "], temperature=0.5)
    lines = poem.split("\n")
    assert len(lines) >= 4
    assert all(line[:1].isupper() or line[:1] in "\"'(-" for line in lines)
    assert {"the", "and", "of", "to", "in"} & set(poem.lower().split())


@pytest.mark.parametrize("name", FOLDERS)
def test_published_models_write_in_company_what_they_write_alone(name: str) -> None:
    """A net whose states grew apart by rounding alone would not."""
    folder = FOLDERS[name]
    sampler = load(text_config(folder), folder).sampler
    rows = [
        GenerateParams("completion", tuple(byte_ids("O " * (i + 1)).tolist()), 250, i, SamplingOptions(temperature=0.8))
        for i in range(8)
    ]
    together = run_rows(sampler, rows)
    for i in (0, 5):
        alone = "".join(chunk.text for chunk in bare_loop(sampler, rows[i]))
        assert "".join(chunk.text for chunk in together.chunks(i + 1)) == alone
