"""The embedded transformer: shapes, starting point, captions, and its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from services.families.diffusion import emoji_checkpoint
from services.families.diffusion.captions import Captions, pad
from services.families.diffusion.model import Architecture, EmojiDenoiser, from_patches, grid_positions, to_patches

CAPTIONS = Captions(("apple", "blue", "green", "heart", "red"))
SMALL = Architecture(words=len(CAPTIONS), width=48, depth=2, heads=3, modulation=16, caption_width=16)


def make_denoiser(seed: int = 0) -> EmojiDenoiser:
    """A small model whose every layer has an effect, unlike a fresh one's."""
    torch.manual_seed(seed)
    denoiser = EmojiDenoiser(SMALL)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return denoiser.eval().requires_grad_(False)


def test_patches_fold_back_into_the_image_they_were_cut_from() -> None:
    images = torch.randn(2, 3, 32, 32)
    tokens = to_patches(images, 4)
    assert tokens.shape == (2, 64, 48)
    assert torch.equal(tokens[0, 9].view(3, 4, 4), images[0, :, 4:8, 4:8])
    assert torch.equal(from_patches(tokens, 4, 8), images)


def test_no_two_patches_have_the_same_position() -> None:
    positions = grid_positions(8, 48)
    distances = torch.cdist(positions, positions) + torch.eye(64) * 9
    assert distances.min() > 0.1


def test_a_fresh_model_predicts_nothing_so_that_training_starts_at_the_mean() -> None:
    ids, mask = pad([CAPTIONS.encode("red heart")])
    assert EmojiDenoiser(SMALL)(torch.randn(1, 3, 32, 32), torch.tensor([0.5]), ids, mask).abs().max() == 0


def test_padding_changes_no_prediction() -> None:
    denoiser = make_denoiser().double()
    x, t = torch.randn(1, 3, 32, 32, dtype=torch.float64), torch.tensor([0.3], dtype=torch.float64)
    short = pad([CAPTIONS.encode("red heart")])
    long = pad([CAPTIONS.encode("red heart")], length=SMALL.caption_length)
    torch.testing.assert_close(denoiser(x, t, *short), denoiser(x, t, *long), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("one", "other"), [("red heart", "blue heart"), ("red heart", "red apple"), ("red heart", ""), ("red", "red red")]
)
def test_another_caption_gives_another_prediction(one: str, other: str) -> None:
    denoiser, x, t = make_denoiser(), torch.randn(1, 3, 32, 32), torch.tensor([0.3])
    first, second = (denoiser(x, t, *pad([CAPTIONS.encode(text)])) for text in (one, other))
    assert (first - second).abs().max() > 1e-3


def test_the_order_of_words_matters() -> None:
    denoiser, x, t = make_denoiser(), torch.randn(1, 3, 32, 32), torch.tensor([0.3])
    first, second = (denoiser(x, t, *pad([CAPTIONS.encode(text)])) for text in ("red blue", "blue red"))
    assert (first - second).abs().max() > 1e-4


def test_a_null_caption_is_finite_whatever_ids_its_mask_hides() -> None:
    denoiser, x, t = make_denoiser(), torch.randn(1, 3, 32, 32), torch.tensor([1.0])
    hidden = torch.zeros(1, 2, dtype=torch.bool)
    first, second = (denoiser(x, t, torch.tensor([ids]), hidden) for ids in ([34, 35], [0, 0]))
    assert first.isfinite().all()
    assert torch.equal(first, second)


def test_every_parameter_learns() -> None:
    denoiser = make_denoiser().train().requires_grad_(True)
    ids, mask = pad([CAPTIONS.encode("red heart"), []])
    denoiser(torch.randn(2, 3, 32, 32), torch.rand(2), ids, mask).square().mean().backward()
    idle = [name for name, p in denoiser.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not idle


def test_a_saved_model_draws_what_it_drew_before(tmp_path: Path) -> None:
    denoiser = make_denoiser()
    for parameter in denoiser.parameters():
        parameter.copy_(parameter.half())  # what float16 can hold is kept exactly
    emoji_checkpoint.save(tmp_path, denoiser, CAPTIONS)
    loaded = emoji_checkpoint.load(tmp_path)
    x, t, caption = torch.randn(1, 3, 32, 32), torch.tensor([0.7]), pad([CAPTIONS.encode("green apple")])
    assert loaded.captions.vocabulary == CAPTIONS.vocabulary
    assert torch.equal(loaded.denoiser(x, t, *caption), denoiser(x, t, *caption))


@pytest.mark.parametrize("change", [{"model_type": "another"}, {"prediction": "epsilon"}, {"unheard_of": 1}])
def test_another_kind_of_config_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    emoji_checkpoint.save(tmp_path, make_denoiser(), CAPTIONS)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ValidationError):
        emoji_checkpoint.load(tmp_path)


def test_weights_of_another_vocabulary_are_refused(tmp_path: Path) -> None:
    emoji_checkpoint.save(tmp_path, make_denoiser(), CAPTIONS)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"vocabulary": ["apple"]}))
    with pytest.raises(RuntimeError, match="size mismatch"):
        emoji_checkpoint.load(tmp_path)
