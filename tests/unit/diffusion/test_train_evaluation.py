"""What the figures rest on: picking by pixels, by a classifier, and the sample beside the weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from services.families.diffusion import emoji_checkpoint
from services.families.diffusion.captions import Captions
from services.families.diffusion.emoji_data import Emoji, Picture
from services.families.diffusion.evaluation import evaluate
from services.families.diffusion.evaluation_pick import (
    augmented,
    blur,
    candidate_rows,
    classified,
    nearest,
    train_classifier,
)
from services.families.diffusion.evaluation_sample import read_sample, score_sample, write_sample
from services.families.diffusion.model import Architecture, EmojiDenoiser


def draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Twelve smooth pictures (12, 3, 32, 32) that are well apart."""
    coarse = torch.randn(12, 3, 4, 4, generator=draws(0))
    return torch.nn.functional.interpolate(coarse, size=32, mode="bilinear").clamp(-1, 1)


def test_blurring_keeps_flat_pictures_and_spreads_a_point_evenly() -> None:
    flat = torch.full((1, 3, 8, 8), 0.3)
    torch.testing.assert_close(blur(flat), flat)
    point = torch.zeros(1, 1, 9, 9)
    point[0, 0, 4, 4] = 1
    spread = blur(point)[0, 0]
    assert spread.sum() == pytest.approx(1)
    torch.testing.assert_close(spread, spread.T)


def test_the_nearest_picture_is_found_through_noise_wherever_it_stands(images: Tensor) -> None:
    rows = torch.stack([torch.randperm(12, generator=draws(seed)) for seed in range(12)])
    noisy = images + 0.3 * torch.randn(images.shape, generator=draws(1))
    picks = nearest(noisy, images[rows])
    assert [int(rows[place, pick]) for place, pick in enumerate(picks)] == list(range(12))


def test_candidates_are_the_asked_one_first_and_others_once() -> None:
    rows = candidate_rows([3, 3, 7], range(20), 10, seed=0)
    assert rows[:, 0].tolist() == [3, 3, 7]
    assert all(len(set(row)) == 10 for row in rows.tolist())
    assert rows[0].tolist() != rows[1].tolist()
    assert torch.equal(rows, candidate_rows([3, 3, 7], range(20), 10, seed=0))


def test_a_classifier_tells_real_pictures_apart_when_they_are_augmented_anew(images: Tensor) -> None:
    classifier = train_classifier(images, steps=40, batch_size=48)
    picks = classified(classifier, augmented(images, draws(5)), candidate_rows(range(12), range(12), 6, seed=0))
    assert sum(pick == 0 for pick in picks) >= 11
    unasked = classified(classifier, images.flip(0), candidate_rows(range(12), range(12), 6, seed=0))
    assert sum(pick == 0 for pick in unasked) <= 4


def test_augmenting_moves_white_in_from_the_edges() -> None:
    moved = augmented(torch.ones(16, 3, 32, 32), draws(0))
    assert (moved.mean((1, 2, 3)) - 1).abs().max() < 0.05


def make_emoji() -> Emoji:
    """60 things, and 8 colours in 8 shapes of which one shape is not trained on in two colours."""
    things = [Picture(f"thing {number}") for number in range(60)]
    pairs = [(f"colour{c}", f"shape{s}") for c in range(8) for s in range(8)]
    coloured = [
        Picture(" ".join(pair), (), pair, held_out=pair in (pairs[0], pairs[9], *pairs[20:27])) for pair in pairs
    ]
    pictures = (*things, *coloured)
    pixels = torch.randint(0, 256, (len(pictures), 3, 32, 32), generator=draws(0))
    return Emoji(pictures, pixels / 127.5 - 1)


def make_weights(folder: Path, emoji: Emoji) -> Path:
    captions = Captions.of(emoji.names)
    torch.manual_seed(0)
    shape = Architecture(len(captions), width=12, depth=1, heads=1, modulation=8, caption_width=8)
    emoji_checkpoint.save(folder, EmojiDenoiser(shape), captions)
    write_sample(folder, emoji)
    return folder


def test_the_sample_holds_the_pictures_themselves_in_less_than_100_kb(tmp_path: Path) -> None:
    emoji = make_emoji()
    sample = read_sample(make_weights(tmp_path, emoji))
    places = [emoji.names.index(name) for name in sample.names]
    torch.testing.assert_close(sample.images, emoji.images[places])
    assert len(sample.part(held_out=True).pictures) == 8
    assert all(emoji.pictures[place].held_out for place in places[16:])
    assert (tmp_path / "held_out.safetensors").stat().st_size < 100_000


def test_an_untrained_model_picks_by_chance_and_its_loss_is_that_of_predicting_nothing(tmp_path: Path) -> None:
    emoji = make_emoji()
    folder = make_weights(tmp_path, emoji)
    score = score_sample(folder)
    assert score == score_sample(folder)
    variance = float((1 + read_sample(folder).images.square()).mean())
    assert score.loss == pytest.approx(variance, rel=0.05)
    assert score.picked <= 0.2


@pytest.mark.slow
def test_every_figure_of_an_untrained_model_is_near_its_baseline(tmp_path: Path) -> None:
    emoji = make_emoji()
    evaluation = evaluate(make_weights(tmp_path, emoji), emoji)
    figures = {figure.name: figure for figure in evaluation.figures}
    for name in ("picked_by_pixels", "picked_by_classifier", "recombined"):
        figure = figures[name]
        assert figure.baseline == pytest.approx(0.02)
        assert figure.value <= 0.15, name
    assert figures["flow_loss"].value == pytest.approx(figures["flow_loss"].baseline)
    assert set(evaluation.sheets) == {"samples"}
