"""What `loadtests.speech` makes of answers and of what a recognizer heard, and which figures fail a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import yaml

from loadtests.speech import LINES, Results, Said, Times, goals, judge, measure, words_of, write
from services.families import LoadedModel
from services.families.autoregressive.recognizer import Recognizer
from services.families.vits.tasks import Speaking, SpeechTask
from tests.unit.vits.tiny import VOICE, Letters, make_sampler, write_voice

WORDS = ["one two three", "four five"]


class Parrot:
    """A recognizer that knows what it hears."""

    def __init__(self, *heard: str) -> None:
        self._heard = iter(heard)

    def hears(self, clip: torch.Tensor, rate: int) -> str:
        return next(self._heard)


def results(**times: Times) -> Results:
    usual = Times(speed=5.0, by_cpu=6.0, first=0.2, longest_first=0.3, total=0.5)
    every = {"one by one": usual, "a long text": usual, **times}
    return Results("tiny", 0.0, words=100, wrong=4, times=every)


def test_fifty_unlike_sentences_are_said() -> None:
    assert len({tuple(words_of(line)) for line in LINES}) == 50
    assert not any(character.isdigit() for line in LINES for character in line)


def test_a_word_that_is_changed_left_out_or_put_in_is_an_error_and_shown() -> None:
    found = Results("tiny", 0.0)
    answers = [Said(torch.zeros(8000), 8000, 0.1, 0.2)] * 2
    judge(cast(Recognizer, Parrot(" One too three. ", "Four, the five, six!")), WORDS, answers, found)
    assert (found.words, found.wrong) == (5, 3)
    assert found.heard == [(WORDS[0], "One too three."), (WORDS[1], "Four, the five, six!")]


@pytest.mark.parametrize(
    ("found", "unmet"),
    [
        (results(), []),
        (Results("tiny", 0.0, words=100, wrong=11, times=results().times), ["word error rate"]),
        (results(**{"one by one": Times(9.0, 2.0, 0.2, 0.3, 0.5)}), ["one by one: sound in a second of CPU, s"]),
        (results(**{"a long text": Times(5.0, 6.0, 0.6, 0.6, 9.0)}), ["a long text: first sound / a whole sentence"]),
    ],
)
def test_a_figure_beyond_its_bound_is_not_met(found: Results, unmet: list[str]) -> None:
    assert [goal.name for goal in goals(found) if not goal.met] == unmet


async def test_a_voice_is_measured_in_each_way_and_its_report_says_so(tmp_path: Path) -> None:
    speaking = Speaking("tiny", "tiny", 1.0, gap_s=0.1, most_phonemes=999)
    sampler = make_sampler(write_voice(tmp_path))
    task: Any = SpeechTask(VOICE, Letters(), speaking)
    found = Results("tiny", 0.0, note="a note")
    answers = await measure(LoadedModel(sampler, {"speech": task}, 0, {}, "1"), WORDS, found)
    assert list(found.times) == ["one by one", "four together", "a long text"]
    assert all(0 < each.first <= each.total and each.speed > 0 for each in found.times.values())
    judge(cast(Recognizer, Parrot(*WORDS)), WORDS, answers, found)
    text = write(found, tmp_path / "out", "What it is.").read_text()
    assert "What it is." in text
    assert "- note: a note" in text
    assert "0 errors in 5 words" in text
    assert json.loads((tmp_path / "out/speech.json").read_text())["wrong"] == 0


def test_the_committed_report_keeps_its_targets() -> None:
    report = json.loads((Path(__file__).parents[3] / "loadtests/reports/speech.json").read_text())
    assert report["wrong"] / report["words"] < 0.1
    assert (
        report["model"]
        == yaml.safe_load((Path(__file__).parents[3] / "docs/examples/speech.yaml").read_text())["services"][0][
            "models"
        ][0]["id"]
    )
