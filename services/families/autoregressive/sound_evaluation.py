"""Owns the measuring of the model of sounds: bits, classes by a judge, how new its sounds are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from services.families.autoregressive.baselines import linear_bits, unigram_bits
from services.families.autoregressive.clips import SAMPLE, ClipSet, read_clips
from services.families.autoregressive.data import RATE, SOUNDS
from services.families.autoregressive.drawing import draw_clips, load_for_measuring
from services.families.autoregressive.model import WaveNet
from services.families.autoregressive.mulaw import to_codes
from services.families.autoregressive.sheets import clip_sheet
from services.families.autoregressive.spectral import SpectralJudge, make_judge
from services.families.autoregressive.training import bits_per_sample
from services.training.recipe import Evaluation, Figure

TEMPERATURE = 0.8  # that the figures are of, and that requests have which leave it out
_TIMES = 8  # that each class is drawn
_SHOWN = 4


def evaluate_sounds(weights: Path, data: Path) -> Evaluation:
    """Every figure and sheet of a folder of weights; a few minutes on a core."""
    model, clips = load_for_measuring(weights), read_clips(data)
    train, held_out = (clips.part(held_out=out) for out in (False, True))
    asked = [label for label in range(len(SOUNDS)) for _ in range(_TIMES)]
    drawn = draw_clips(model, asked, temperature=TEMPERATURE)
    judge = make_judge(train)
    figures = [*_bits(model, train, held_out), sample_figure(model, weights), *_classes(judge, held_out, drawn, asked)]
    sheets = {"sounds": _sheet(train, drawn)}
    return Evaluation(figures, sheets, _notes(clips, held_out, judge, drawn))


def _bits(model: WaveNet, train: ClipSet, held_out: ClipSet) -> list[Figure]:
    known, told = ([to_codes(clip) for clip in part.clips] for part in (train, held_out))
    linear, unigram = linear_bits(known, told), unigram_bits(known, told)
    return [
        Figure(
            "bits_per_sample",
            bits_per_sample(model, held_out),
            "lower",
            tolerance=0.01,
            baseline=linear,
            baseline_name=f"a linear predictor of 16 samples; a uniform code takes 8 bits, a code alone {unigram:.2f}",
            meaning=f"exact, ends included, of {len(held_out)} held-out recordings, given their class",
        ),
        Figure(
            "bits_per_sample_trained_on",
            bits_per_sample(model, train),
            "lower",
            tolerance=0.01,
            baseline=linear_bits(known, known),
            baseline_name="the linear predictor",
            meaning="the same of the recordings that it was trained on: how much is known by heart",
        ),
    ]


def sample_figure(model: WaveNet, weights: Path) -> Figure:
    """Of the recordings that lie beside the weights."""
    return Figure(
        "sample_bits_per_sample",
        bits_per_sample(model, read_clips(weights, SAMPLE)),
        "lower",
        tolerance=0.005,
        meaning="the same as bits_per_sample, of the committed held-out recordings",
    )


def _classes(judge: SpectralJudge, held_out: ClipSet, drawn: Sequence[Tensor], asked: Sequence[int]) -> list[Figure]:
    real = judge.accuracy(held_out.clips, held_out.labels)
    return [
        Figure(
            "class_accuracy",
            judge.accuracy(drawn, asked),
            "higher",
            tolerance=0.1,
            baseline=1 / len(SOUNDS),
            baseline_name=f"a guess; of held-out recordings the judge knows {real:.2f}",
            meaning=f"how often the nearest of the training recordings, by spectrum, is of the class asked for, of "
            f"{len(drawn)} drawn sounds",
        ),
        Figure(
            "distance_to_nearest_recording",
            _median(judge, drawn),
            "lower",
            tolerance=15.0,
            baseline=_median(judge, held_out.clips),
            baseline_name="held-out recordings",
            meaning="median distance of drawn sounds' spectra to the nearest training recording's, in decibels over "
            "576 points",
        ),
        Figure(
            "distance_of_two_draws",
            _spread(judge, drawn),
            "higher",
            tolerance=15.0,
            baseline=0.0,
            baseline_name="the same sound each time",
            meaning="median distance between two draws of the same class",
        ),
    ]


def _median(judge: SpectralJudge, clips: Sequence[Tensor]) -> float:
    return judge.nearest(clips)[1].median().item()


def _spread(judge: SpectralJudge, drawn: Sequence[Tensor]) -> float:
    """Of neighbours among the draws of a class."""
    found = judge.features(drawn).view(len(SOUNDS), _TIMES, -1)
    return (found[:, 1:] - found[:, :-1]).norm(dim=2).median().item()


def _sheet(train: ClipSet, drawn: Sequence[Tensor]) -> Image.Image:
    rows = [
        [train.clips[train.labels.index(label)], *drawn[label * _TIMES : label * _TIMES + _SHOWN]]
        for label in range(len(SOUNDS))
    ]
    return clip_sheet(rows, list(SOUNDS), RATE)


def _notes(clips: ClipSet, held_out: ClipSet, judge: SpectralJudge, drawn: Sequence[Tensor]) -> list[str]:
    counts = ", ".join(f"{name} {clips.labels.count(label)}" for label, name in enumerate(SOUNDS))
    unseen = [name for label, name in enumerate(SOUNDS) if label not in held_out.labels]
    without = f" None of {', '.join(unseen)} is held out: there are too few." if unseen else ""
    told = judge.nearest(drawn)[0].view(len(SOUNDS), _TIMES)
    rates = ", ".join(f"{name} {(told[i] == i).float().mean().item():.2f}" for i, name in enumerate(SOUNDS))
    return [
        f"There are {len(clips)} recordings ({counts}), of which {len(held_out)} are held out.{without} So few do not "
        "tell a class from its recordings: the bits of held-out ones beside those of the ones that were trained on say "
        "how much is known by heart.",
        "The judge says the class of the nearest training recording by its spectrum; how often it is right about the "
        f"few held-out recordings stands beside its figure. Of {_TIMES} draws of each class it knows: {rates}. What "
        "has a pitch and rings on is what the model does worst. Figures are of draws at temperature "
        f"{TEMPERATURE:g}, as requests have it that leave it out: of 0.4, 0.6, 0.8 and 1 the judge knew most there.",
        "In the picture: a row a class; a recording that was trained on, then four draws. Above the spectrogram up to "
        "4 kHz, below the waveform.",
    ]
