"""What is measured: baselines, the judge by spectra, words of a recognizer, and whole reports in small."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from services.families.autoregressive import sound_evaluation, word_evaluation
from services.families.autoregressive.baselines import linear_bits, unigram_bits
from services.families.autoregressive.clips import SAMPLE, ClipSet, write_clips
from services.families.autoregressive.data import SOUNDS, WORDS
from services.families.autoregressive.model import Sound
from services.families.autoregressive.recognizer import errors, spelled, word_error_rate
from services.families.autoregressive.spectral import make_judge
from services.families.autoregressive.training import Course
from services.nn.weights import save_model
from tests.unit.autoregressive.tiny import WORDS as SHAPE
from tests.unit.autoregressive.tiny import make_clips, make_model


def test_a_code_alone_is_counted_by_how_often_it_is_there() -> None:
    """By hand: three of 1, one of 2, and one added to each of the 256."""
    train = [torch.tensor([1, 1, 2]), torch.tensor([1])]
    expected = -(math.log2(4 / 260) + math.log2(1 / 260)) / 2
    assert unigram_bits(train, [torch.tensor([1, 9])]) == pytest.approx(expected)


def test_a_linear_predictor_knows_tones_and_not_noise() -> None:
    time = torch.arange(2000)
    tones = [(128 + 60 * torch.sin(time / pace)).round().long() for pace in (5.0, 5.1)]
    noises = list(torch.randint(68, 188, (2, 2000), generator=torch.Generator().manual_seed(0)))
    tone, noise = (linear_bits(clips[:1], clips[1:]) for clips in (tones, noises))
    assert tone < unigram_bits(tones[:1], tones[1:]) - 2
    assert noise == pytest.approx(unigram_bits(noises[:1], noises[1:]), abs=0.5)


def test_the_judge_tells_tones_from_noise_whatever_their_loudness() -> None:
    clips = make_clips()
    judge = make_judge(clips.part(held_out=False))
    held_out = clips.part(held_out=True)
    assert judge.accuracy([clip * 0.1 for clip in held_out.clips], held_out.labels) == 1
    assert judge.accuracy(held_out.clips, [1, 0]) == 0
    _, distances = judge.nearest(clips.part(held_out=False).clips)
    assert distances.max().item() == pytest.approx(0, abs=1e-2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" 8, 0, 2, 7, 4", list("80274")),
        (" M-N-F-S-X.", list("mnfsx")),
        ("One two, oh!", list("120")),
        ("12 b", list("12b")),
        ("JFQ of U.", ["j", "f", "q", "of", "u"]),
        ("You", ["you"]),
        (" ♪ ", []),
    ],
)
def test_what_is_heard_is_spelled(text: str, words: list[str]) -> None:
    assert spelled(text) == words


@pytest.mark.parametrize(
    ("said", "heard", "count"),
    [("abc", "abc", 0), ("abc", "", 3), ("abc", "xabc", 1), ("abc", "adcc", 2), ("", "a", 1)],
)
def test_errors_are_the_fewest_changes(said: str, heard: str, count: int) -> None:
    assert errors(list(said), list(heard)) == count


class Hears:
    """Hears what it is told to."""

    def __init__(self, *texts: str) -> None:
        self._texts = list(texts)

    def hears(self, clip: Tensor, rate: int) -> str:
        return self._texts.pop(0)


def test_the_rate_of_errors_is_of_all_words_together() -> None:
    heard: Any = Hears("one 2", "7 7 7")
    assert word_error_rate(heard, [torch.zeros(1)] * 2, [["1", "3"], ["7"]], 8000) == pytest.approx(3 / 3)


def folder_of(tmp_path: Path, names: list[str], clips: ClipSet) -> Path:
    kind = {"kind": "speech", "voice": "ann"} if len(names) > 8 else {"kind": "sound", "voice": ""}
    config = SHAPE.model_copy(update={"sounds": tuple(Sound(name=name, frames=20) for name in names), **kind})
    save_model(make_model(config, end=-60.0), config, tmp_path)
    write_clips(tmp_path, clips.take([0, 1]), SAMPLE)
    write_clips(tmp_path, clips)
    return tmp_path


def some(labels: list[int], held_out: list[bool]) -> ClipSet:
    """Clips of 20 frames."""
    noise = torch.randn(len(labels), 80, generator=torch.Generator().manual_seed(1)) * 0.2
    return ClipSet(list(noise), labels, held_out)


def test_a_report_of_words_has_every_figure_beside_its_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recognizer hears the first word of each five; of the recordings it hears every word of digits."""
    monkeypatch.setattr(word_evaluation, "Recognizer", lambda folder: Hears(*["7"] * 60))
    folder = folder_of(tmp_path, list(WORDS), some(list(range(36)), [False] * 36))
    report = word_evaluation.evaluate_words(folder, folder, Course(0.0, speed=0.0, gain_db=1.0, noise=0.0))
    figures = {figure.name: figure for figure in report.figures}
    assert set(figures) == {
        "bits_per_sample",
        "bits_per_sample_recorded",
        "sample_bits_per_sample",
        "word_error_rate_digits",
        "word_error_rate_letters",
        "nearest_recording_is_the_word",
        "length_off_by",
    }
    assert figures["word_error_rate_letters"].value == figures["word_error_rate_letters"].baseline == 1
    assert figures["word_error_rate_digits"].value == pytest.approx(0.9, abs=0.05)
    assert figures["length_off_by"].value == 0
    assert set(report.sheets) == {"words"}
    assert word_evaluation.sample_figure(make_model(), folder).value > 0


def test_a_report_of_sounds_has_every_figure_beside_its_baseline(tmp_path: Path) -> None:
    labels = [label for label in range(len(SOUNDS)) for _ in range(2)]
    folder = folder_of(tmp_path, list(SOUNDS), some(labels, [False, True] * len(SOUNDS)))
    report = sound_evaluation.evaluate_sounds(folder, folder)
    figures = {figure.name: figure for figure in report.figures}
    assert set(figures) == {
        "bits_per_sample",
        "bits_per_sample_trained_on",
        "sample_bits_per_sample",
        "class_accuracy",
        "distance_to_nearest_recording",
        "distance_of_two_draws",
    }
    assert 0 <= figures["class_accuracy"].value < 0.6, "noise is of no class"
    assert figures["distance_of_two_draws"].value > 0
    assert "16 recordings" in report.notes[0]
    assert set(report.sheets) == {"sounds"}
