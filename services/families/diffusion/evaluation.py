"""Owns what is measured of the embedded model: whether it draws what is asked, also in pairs that it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from services.families.diffusion import emoji_checkpoint
from services.families.diffusion.emoji_checkpoint import EmojiCheckpoint
from services.families.diffusion.emoji_data import Emoji
from services.families.diffusion.emoji_flow import FixedDraws
from services.families.diffusion.emoji_sampling import GUIDANCE, STEPS, draw
from services.families.diffusion.emoji_sheet import captioned_sheet
from services.families.diffusion.evaluation_pick import (
    augmented,
    candidate_rows,
    classified,
    nearest,
    train_classifier,
)
from services.families.diffusion.evaluation_sample import score_sample
from services.nn.rng import row_generator
from services.training.recipe import Evaluation, Figure

_PROMPTS, _CANDIDATES = 200, 50
_OF_EACH_PAIR = 4
_CLASSIFIER_STEPS = 800
_SHEET = (48, 16)  # training names, held-out pairs


def evaluate(weights: Path, emoji: Emoji) -> Evaluation:
    """Figures and sheets of exported weights. Deterministic; about three minutes on two threads."""
    checkpoint = emoji_checkpoint.load(weights)
    sample = score_sample(weights)
    figures = [
        *_asked_figures(checkpoint, emoji.part(held_out=False)),
        *_recombined_figures(checkpoint, emoji),
        *_loss_figures(checkpoint, emoji),
        Figure("sample_flow_loss", sample.loss, "lower", tolerance=0.002, meaning="of the sample beside the weights"),
        Figure(
            "sample_picked", sample.picked, "higher", tolerance=0.1, baseline=1 / 24, baseline_name="chance",
            meaning="share of 10 prompts, drawn in 10 steps, whose own picture is the nearest of the sample's 24",
        ),
    ]  # fmt: skip
    return Evaluation(figures, {"samples": _sheet(checkpoint, emoji)}, _notes(emoji))


def _asked_figures(checkpoint: EmojiCheckpoint, trained: Emoji) -> list[Figure]:
    """Prompts are training names; each is to be picked among 50 of them."""
    asked = torch.randperm(len(trained.pictures), generator=row_generator(0))[:_PROMPTS].tolist()
    rows = candidate_rows(asked, range(len(trained.pictures)), _CANDIDATES, seed=1)
    drawn = draw(checkpoint.denoiser, checkpoint.captions, [trained.names[row] for row in asked], range(len(asked)))
    classifier = train_classifier(trained.images, steps=_CLASSIFIER_STEPS)
    fresh = augmented(trained.images[asked], row_generator(2))
    by_pixels = nearest(drawn, trained.images[rows])
    by_class = classified(classifier, drawn, rows)
    real = classified(classifier, fresh, rows)
    what = f"{len(asked)} prompts from training names, each picked among {_CANDIDATES}"
    return [
        _picked("picked_by_pixels", by_pixels, f"{what}: the nearest real picture is the asked one"),
        _picked("picked_by_classifier", by_class, f"{what}: a classifier of real pictures says the asked one"),
        _picked("classifier_on_real", real, "the same classifier, of real pictures augmented anew: its ceiling"),
    ]


def _recombined_figures(checkpoint: EmojiCheckpoint, emoji: Emoji) -> list[Figure]:
    """Prompts are pairs of colour and shape that were held out; candidates are pictures that come in colours."""
    pictures = emoji.pictures
    coloured = [row for row, picture in enumerate(pictures) if picture.pair]
    asked = [row for row in coloured if pictures[row].held_out for _ in range(_OF_EACH_PAIR)]
    rows = candidate_rows(asked, coloured, _CANDIDATES, seed=3)
    prompts = [pictures[row].name for row in asked]
    drawn = draw(checkpoint.denoiser, checkpoint.captions, prompts, range(len(asked)))
    picks = nearest(drawn, emoji.images[rows])
    got = [pictures[int(rows[place, pick])].pair or ("", "") for place, pick in enumerate(picks)]
    figures = [
        _picked(
            "recombined",
            picks,
            f"{len(asked)} drawings of {len(set(asked))} held-out pairs: the nearest of {_CANDIDATES} real coloured "
            "pictures is the asked pair",
        )
    ]
    for part, word in enumerate(("colour", "shape")):
        wanted = [(pictures[row].pair or ("", ""))[part] for row in asked]
        right = sum(pair[part] == want for pair, want in zip(got, wanted, strict=True)) / len(asked)
        by_chance = sum(
            (pictures[candidate].pair or ("", ""))[part] == want
            for want, candidates in zip(wanted, rows.tolist(), strict=True)
            for candidate in candidates
        ) / rows.numel()  # fmt: skip
        figures.append(
            Figure(f"recombined_{word}", right, "higher", 0.05, by_chance, "chance", f"the same, {word} alone")
        )
    return figures


def _loss_figures(checkpoint: EmojiCheckpoint, emoji: Emoji) -> list[Figure]:
    figures: list[Figure] = []
    for name, held_out in (("flow_loss", False), ("flow_loss_held_out_pairs", True)):
        draws = FixedDraws.of(emoji.part(held_out=held_out), checkpoint.captions, 256, seed=0)
        without = draws.without_captions().loss(checkpoint.denoiser)
        loss = draws.loss(checkpoint.denoiser)
        figures.append(
            Figure(
                name, loss, "lower", 0.002, without, "the model without captions", "mean square over 256 fixed draws"
            )
        )
    return figures


def _picked(name: str, picks: Sequence[int], meaning: str) -> Figure:
    """The asked one is candidate 0."""
    share = sum(pick == 0 for pick in picks) / len(picks)
    return Figure(name, share, "higher", 0.05, 1 / _CANDIDATES, "chance", meaning)


def _sheet(checkpoint: EmojiCheckpoint, emoji: Emoji) -> Image.Image:
    trained, unseen = emoji.part(held_out=False).names, emoji.part(held_out=True).names
    prompts = [
        *(trained[place * len(trained) // _SHEET[0]] for place in range(_SHEET[0])),
        *(unseen[place * len(unseen) // _SHEET[1]] for place in range(_SHEET[1])),
    ]
    return captioned_sheet(draw(checkpoint.denoiser, checkpoint.captions, prompts, range(len(prompts))), prompts)


def _notes(emoji: Emoji) -> list[str]:
    pairs = ", ".join(sorted(emoji.part(held_out=True).names))
    return [
        f"Drawn in {STEPS} even Euler steps at a guidance of {GUIDANCE:g}, seeds from 0.",
        "Nearest: Euclidean distance of 32 x 32 RGB pixels after a Gaussian blur of one pixel.",
        f"In the sheet the first six rows are training names, the last two held-out pairs. Held out: {pairs}.",
    ]
