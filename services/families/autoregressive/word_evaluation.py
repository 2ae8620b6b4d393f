"""Owns the measuring of the model of words: bits, what a recognizer hears, where words end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from services.families.autoregressive.baselines import linear_bits, unigram_bits
from services.families.autoregressive.clips import SAMPLE, ClipSet, read_clips
from services.families.autoregressive.data import RATE, WORDS
from services.families.autoregressive.drawing import SEED, draw_clips, load_for_measuring
from services.families.autoregressive.model import WaveNet
from services.families.autoregressive.mulaw import to_codes
from services.families.autoregressive.recognizer import Recognizer, word_error_rate
from services.families.autoregressive.sheets import clip_sheet
from services.families.autoregressive.spectral import make_judge
from services.families.autoregressive.training import Course, altered_set, bits_of, bits_per_sample
from services.training.recipe import Evaluation, Figure

WHISPER_FOLDER = "whisper"  # of the data
TEMPERATURE = 0.3  # that the figures are of, and that requests have which leave it out
_TOGETHER = 5  # words that the recognizer hears at once
_TIMES = 2  # that each word is said
_GAP_S = 0.12


def evaluate_words(weights: Path, data: Path, course: Course) -> Evaluation:
    """Every figure and sheet of a folder of weights; some five minutes on a core."""
    model, clips = load_for_measuring(weights), read_clips(data)
    recognizer = Recognizer(data / WHISPER_FOLDER)
    said = [label for label in range(len(clips)) for _ in range(_TIMES)]
    drawn = draw_clips(model, said, temperature=TEMPERATURE)
    figures = [
        *_bits(model, clips, course),
        sample_figure(model, weights),
        *_heard(recognizer, "digits", [i for i, name in enumerate(WORDS) if name.isdigit()], clips, drawn),
        *_heard(recognizer, "letters", [i for i, name in enumerate(WORDS) if name.isalpha()], clips, drawn),
        *_likeness(clips, drawn, said),
    ]
    shown = [list(WORDS).index(name) for name in ("a", "f", "w", "1", "4", "6")]
    again = draw_clips(model, shown, temperature=1.0)
    rows = [[clips.clips[i], drawn[_TIMES * i], drawn[_TIMES * i + 1], again[n]] for n, i in enumerate(shown)]
    sheet = clip_sheet(rows, [list(WORDS)[i] for i in shown], RATE)
    return Evaluation(figures, {"words": sheet}, _notes())


def _bits(model: WaveNet, clips: ClipSet, course: Course) -> list[Figure]:
    changed = altered_set(clips, model.config, course)
    train, told = [to_codes(clip) for clip in clips.clips], [each.codes[0] for each in changed]
    linear, unigram = linear_bits(train, told), unigram_bits(train, told)
    return [
        Figure(
            "bits_per_sample",
            bits_of(model, changed),
            "lower",
            tolerance=0.01,
            baseline=linear,
            baseline_name=f"a linear predictor of 16 samples; a uniform code takes 8 bits, a code alone {unigram:.2f}",
            meaning="exact, ends included, of each recording at a speed and gain that training did not draw",
        ),
        Figure(
            "bits_per_sample_recorded",
            bits_per_sample(model, clips),
            "lower",
            tolerance=0.01,
            baseline=linear_bits(train, train),
            baseline_name="the linear predictor",
            meaning="the same of the recordings as they are",
        ),
    ]


def sample_figure(model: WaveNet, weights: Path) -> Figure:
    """Of the recordings that lie beside the weights."""
    return Figure(
        "sample_bits_per_sample",
        bits_per_sample(model, read_clips(weights, SAMPLE)),
        "lower",
        tolerance=0.005,
        meaning="the same as bits_per_sample, of the committed recordings as they are",
    )


def _heard(
    recognizer: Recognizer, kind: str, labels: Sequence[int], clips: ClipSet, drawn: Sequence[Tensor]
) -> list[Figure]:
    """What the recognizer makes of drawn words of one kind, and of the recordings in the same order."""
    order = torch.randperm(len(labels) * _TIMES, generator=torch.Generator().manual_seed(SEED)).tolist()
    words = [(labels[place // _TIMES], place % _TIMES) for place in order]
    groups = [words[first : first + _TOGETHER] for first in range(0, len(words), _TOGETHER)]
    names = list(WORDS)
    said = [[names[label] for label, _ in group] for group in groups]
    real = [_joined([clips.clips[label] for label, _ in group]) for group in groups]
    made = [_joined([drawn[_TIMES * label + time] for label, time in group]) for group in groups]
    return [
        Figure(
            f"word_error_rate_{kind}",
            word_error_rate(recognizer, made, said, RATE),
            "lower",
            tolerance=0.1,
            baseline=word_error_rate(recognizer, real, said, RATE),
            baseline_name=f"the recordings themselves; a guess is wrong at {1 - 1 / len(labels):.2f}",
            meaning=f"of {len(words)} drawn {kind}, five at a time in random order, as Whisper tiny.en hears them",
        )
    ]


def _likeness(clips: ClipSet, drawn: Sequence[Tensor], said: Sequence[int]) -> list[Figure]:
    lengths = torch.tensor([len(clip) / len(clips.clips[label]) for clip, label in zip(drawn, said, strict=True)])
    return [
        Figure(
            "nearest_recording_is_the_word",
            make_judge(clips).accuracy(drawn, said),
            "higher",
            tolerance=0.08,
            baseline=1 / len(clips),
            baseline_name="a guess",
            meaning="how often the recording with the nearest spectrum is the one of the word that was asked for",
        ),
        Figure(
            "length_off_by",
            (lengths - 1).abs().mean().item(),
            "lower",
            tolerance=0.02,
            meaning="mean share by which a drawn word is longer or shorter than the recording",
        ),
    ]


def _joined(clips: Sequence[Tensor]) -> Tensor:
    gap = torch.zeros(round(_GAP_S * RATE))
    return torch.cat([piece for clip in clips for piece in (clip, gap)])


def _notes() -> list[str]:
    return [
        "There is one recording of each word, and the model has learnt it: what it says is that voice's recording with "
        "small changes, and no figure here is of words that it has not heard. Its weights are of the recordings' "
        "licence, share-alike.",
        "Every figure of drawn words is at temperature 0.3, as requests are that leave it out: a seed then changes "
        "little. Of 0.3, 0.45, 0.6, 0.8 and 1 it had the fewest errors, by draws such as these. At 1, where the model "
        "draws as it has learnt, words are far noisier, and few are understood.",
        "Single letters are hard to recognize: most of them rhyme, and a little noise makes one of another. Digits "
        "and letters are therefore apart. The recognizer is made for sentences; a word that it makes up counts as an "
        "error.",
        "In the picture: a row a word; the recording, two draws at temperature 0.3, one at 1. Above the spectrogram up "
        "to 4 kHz, below the waveform.",
    ]
