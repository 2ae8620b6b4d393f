"""The recipe: what a batch holds, what the loss measures, and that training lowers it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from services.families.diffusion import emoji_checkpoint
from services.families.diffusion.captions import Captions, pad
from services.families.diffusion.emoji_data import Emoji, Picture
from services.families.diffusion.emoji_flow import FixedDraws, flow_loss
from services.families.diffusion.emoji_sampling import draw
from services.families.diffusion.evaluation_sample import SAMPLE, read_sample
from services.families.diffusion.model import Architecture, EmojiDenoiser
from services.families.diffusion.train import EmojiDiffusion, EmojiTraining

COLOURS = {"red": (0.8, -0.8, -0.8), "green": (-0.8, 0.6, -0.8), "blue": (-0.8, -0.8, 0.9), "grey": (0.0, 0.0, 0.0)}


def make_emoji() -> Emoji:
    """Four flat colours on white, large and small; "grey small" is held out."""
    pictures, images = list[Picture](), list[Tensor]()
    for colour, rgb in COLOURS.items():
        for shape, margin in (("big", 4), ("small", 12)):
            image = torch.ones(3, 32, 32)
            image[:, margin:-margin, margin:-margin] = torch.tensor(rgb)[:, None, None]
            pair = (colour, shape)
            pictures.append(Picture(f"{colour} {shape}", (shape,), pair, held_out=pair == ("grey", "small")))
            images.append(image)
    return Emoji(tuple(pictures), torch.stack(images))


def make_training(width: int = 48) -> EmojiTraining:
    emoji = make_emoji()
    captions = Captions.of(emoji.names)
    torch.manual_seed(0)
    shape = Architecture(len(captions), width=width, depth=2, heads=3, modulation=32, caption_width=16)
    return EmojiTraining(emoji, EmojiDenoiser(shape), captions)


def draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Perfect(nn.Module):
    """Knows the one image that it is asked for."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.image = image

    def forward(self, x: Tensor, t: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        return (x - self.image) / t[:, None, None, None]


def test_the_loss_of_a_perfect_model_is_nothing() -> None:
    image = make_emoji().images[:1]
    noise = torch.randn(8, 3, 32, 32, generator=draws(0))
    times = torch.linspace(0.1, 1, 8)
    batch = (image.expand(8, -1, -1, -1), *pad([[]] * 8))
    assert flow_loss(Perfect(image), batch, noise, times) < 1e-8
    assert flow_loss(Perfect(-image), batch, noise, times) > 1


def test_held_out_pictures_are_never_in_a_batch() -> None:
    training = make_training()
    images, _, _ = training.batch(torch.arange(training.examples), draws(0))
    unseen = make_emoji().part(held_out=True).images
    assert training.examples == len(COLOURS) * 2 - 1
    assert not any(torch.equal(image, unseen[0]) for image in images)


def test_a_tenth_of_captions_is_left_out_and_some_are_the_other_name() -> None:
    training = make_training()
    indices = torch.zeros(4000, dtype=torch.int64)
    _, ids, mask = training.batch(indices, draws(0))
    words = mask.sum(1)
    name, alias = (training.captions.encode(text) for text in ("red big", "big"))
    assert 0.08 < (words == 0).float().mean() < 0.12
    assert 0.12 < (words == 1).float().mean() < 0.18
    assert (ids[words == 2] == torch.tensor(name)).all()
    assert (ids[words == 1, 0] == alias[0]).all()


def test_the_same_generator_draws_the_same_loss() -> None:
    training = make_training()
    with torch.no_grad():  # a fresh model predicts nothing
        training.modules["denoiser"].get_parameter("output.bias").fill_(0.1)
    losses = [
        float(training.loss("denoiser", training.modules, training.batch(torch.arange(4), g), g)[0].detach())
        for g in (draws(1), draws(1), draws(2))
    ]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.slow
def test_a_short_training_gives_the_colour_that_is_asked() -> None:
    training = make_training()
    denoiser = training.modules["denoiser"]
    (phase,) = training.phases
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=5e-3, betas=phase.betas)
    before = training.validate(training.modules)["metric"]
    for step in range(250):
        generator = draws(step)
        batch = training.batch(torch.randint(training.examples, (14,), generator=generator), generator)
        loss, _ = training.loss(phase.name, training.modules, batch, generator)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        optimizer.step()
    denoiser.eval()
    assert training.validate(training.modules)["metric"] < 0.4 * before
    prompts = [f"{colour} big" for colour in ("red", "green", "blue")]
    assert isinstance(denoiser, EmojiDenoiser)
    images = draw(denoiser, training.captions, prompts, range(3), steps=8, guidance=1.5)
    middles = images[:, :, 12:20, 12:20].mean((2, 3))
    assert middles.argmax(1).tolist() == [0, 1, 2]


def test_fixed_draws_never_change_and_cover_all_times() -> None:
    emoji, captions = make_emoji(), Captions.of(make_emoji().names)
    one, again = (FixedDraws.of(emoji, captions, 16, seed=0) for _ in range(2))
    assert torch.equal(one.noise, again.noise)
    assert one.times.sort().values.tolist() == pytest.approx([(i + 0.5) / 16 for i in range(16)])
    assert not one.without_captions().mask.any()


def test_a_model_is_measured_and_drawn_from_on_its_own_device() -> None:
    """ "meta" stands in for a GPU: it computes no values, and fails where tensors of another device come in."""
    emoji = make_emoji()
    training = make_training()
    denoiser = cast(EmojiDenoiser, training.modules["denoiser"]).to("meta")
    with pytest.raises(RuntimeError, match=r"item\(\) cannot be called on meta tensors"):  # the last step
        FixedDraws.of(emoji, training.captions, 4, seed=0).loss(denoiser)
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):  # to the CPU: the last step
        draw(denoiser, training.captions, ["red big"], [0], steps=2)


def test_a_sheet_of_samples_shows_every_prompt() -> None:
    training = make_training()
    assert training.sample({"denoiser": training.modules["denoiser"].eval()}).size == (8 * 112, 4 * 141)


def test_export_stays_in_its_budget_and_writes_the_sample_that_tests_score(tmp_path: Path) -> None:
    from tests.unit.diffusion.test_train_data import make_package

    recipe = EmojiDiffusion()
    for name in ("collected/package", "data", "weights"):
        (tmp_path / name).mkdir(parents=True)
    make_package(tmp_path / "collected" / "package")
    recipe.preprocess({recipe.packages[0].name: tmp_path / "collected"}, tmp_path / "data")
    training = recipe.build(tmp_path / "data", seed=1)
    recipe.export(training.modules, tmp_path / "data", tmp_path / "weights")
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "weights").iterdir()}
    assert set(sizes) == {"config.json", "model.safetensors", SAMPLE}
    assert sizes["model.safetensors"] < recipe.max_bytes
    loaded = emoji_checkpoint.load(tmp_path / "weights")
    assert loaded.captions.unknown("yellow book") == []
    assert loaded.captions.unknown("purple book") == ["purple"]  # here it is of a held-out name alone
    assert len(read_sample(tmp_path / "weights").pictures) == 24
