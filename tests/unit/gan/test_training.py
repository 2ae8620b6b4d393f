"""The game of generator and discriminator, through the recipe's own parts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from services.families.gan import evaluation
from services.families.gan.adversarial import AdversarialTraining, Arena
from services.families.gan.discriminator import Discriminator
from services.families.gan.evaluation import AugmentationTrial, evaluate_generator
from services.families.gan.train import DigitsGan, EmojiGan
from services.nn.weights import save_model
from services.training import judge
from services.training.held_out import write_held_out
from services.training.image_data import ImageSet, read_digits, read_emoji, read_split
from services.training.judge import train_judge
from tests.unit.gan.tiny import SHAPE, make_data, make_generator

ARENA = Arena(SHAPE, discriminator_widths=(8, 16), augmentations=("colour", "translation", "cutout"))


def play(training: AdversarialTraining, steps: int) -> None:
    """The loop's own steps in small."""
    modules = dict(training.modules)
    optimizers = {
        phase.name: torch.optim.AdamW(modules[phase.modules[0]].parameters(), lr=2e-3, betas=phase.betas)
        for phase in training.phases
    }
    for step in range(steps):
        draws = torch.Generator().manual_seed(step)
        batch = training.batch(torch.randint(training.examples, (32,), generator=draws), draws)
        for phase in training.phases:
            for name, module in modules.items():
                module.requires_grad_(name in phase.modules)
            loss, _ = training.loss(phase.name, modules, batch, draws)
            optimizers[phase.name].zero_grad()
            loss.backward()
            optimizers[phase.name].step()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


def test_the_same_seed_begins_with_the_same_weights(data: Path) -> None:
    first, again, other = (AdversarialTraining(ARENA, read_split(data), seed) for seed in (1, 1, 2))
    for name in ("generator", "discriminator"):
        weights, same, different = (each.modules[name].state_dict() for each in (first, again, other))
        assert all(torch.equal(weights[key], same[key]) for key in weights)
        assert not all(torch.equal(weights[key], different[key]) for key in weights)


def test_building_leaves_torch_s_own_generator_alone(data: Path) -> None:
    before = torch.get_rng_state()
    AdversarialTraining(ARENA, read_split(data), 1)
    assert torch.equal(before, torch.get_rng_state())


def test_each_phase_reaches_its_own_module(data: Path) -> None:
    training = AdversarialTraining(ARENA, read_split(data), 0)
    draws = torch.Generator().manual_seed(0)
    batch = training.batch(torch.arange(16), draws)
    for phase in training.phases:
        for module in training.modules.values():
            module.zero_grad(set_to_none=True)
        loss, _ = training.loss(phase.name, training.modules, batch, draws)
        loss.backward()
        gradients = [parameter.grad for parameter in training.modules[phase.modules[0]].parameters()]
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_a_batch_holds_the_asked_images_and_classes(data: Path) -> None:
    split = read_split(data)
    training = AdversarialTraining(ARENA, split, 0)
    images, classes = training.batch(torch.tensor([3, 100]), torch.Generator())
    assert torch.equal(classes, split.train.classes[[3, 100]])
    assert torch.allclose((images + 1) * 127.5, split.train.images[[3, 100]].float(), atol=1e-3)
    assert training.examples == len(split.train) == 162


@pytest.mark.slow
def test_a_short_game_brings_images_nearer_to_the_held_out_ones(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.families.gan.adversarial.train_judge", quick_judge)
    training = AdversarialTraining(replace(ARENA, augmentations=("translation",)), read_split(data), 0)
    with torch.no_grad():  # as the loop does
        before = training.validate(training.modules)
    play(training, 120)
    with torch.no_grad():
        after = training.validate(training.modules)
    assert after["metric"] < 0.5 * before["metric"]
    assert after["class_accuracy"] > 0.6


def quick_judge(images: ImageSet, *, steps: int = 60, seed: int = 0, extra: ImageSet | None = None) -> judge.Judge:
    return train_judge(images, steps=min(steps, 60), seed=seed, extra=extra)


def test_the_discriminator_sees_whether_a_class_is_drawn_variously() -> None:
    """With equal features, a batch of twins and a mixed batch score apart: the term that prevents collapse."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        discriminator = Discriminator(channels=1, classes=2, image_size=16, widths=(8, 16)).eval()
    images = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    classes = torch.tensor([0, 0, 1, 1])
    alone = torch.cat([discriminator(images[i : i + 1], classes[i : i + 1]) for i in range(4)])
    twins = discriminator(images[:1].repeat(4, 1, 1, 1), classes[:1].repeat(4))
    assert torch.allclose(twins, alone[:1].expand(4), atol=1e-5)
    mixed = discriminator(images, classes)
    assert (mixed - alone).abs().max() > 1e-4


def test_a_discriminator_s_layers_have_spectral_norm_one() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        discriminator = Discriminator(channels=1, classes=3, image_size=16, widths=(8, 16)).train()
    images, classes = torch.zeros(3, 1, 16, 16), torch.arange(3)
    for _ in range(30):  # power iterations converge
        discriminator(images, classes)
    layers = [*discriminator.stages, discriminator.features, discriminator.score, discriminator.class_embedding]
    for layer in layers:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        assert torch.linalg.matrix_norm(weight.detach().flatten(1), ord=2).item() == pytest.approx(1, abs=0.02)


def test_a_judge_learns_the_classes_and_gives_features(data: Path) -> None:
    split = read_split(data)
    found = quick_judge(split.train)
    assert found.accuracy(split.held_out.units(), split.held_out.classes) > 0.9
    features, logits = found.judge(split.held_out.units())
    assert features.shape == (18, judge.FEATURES)
    assert logits.shape == (18, 3)


def test_an_evaluation_has_every_figure_beside_its_baseline(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "train_judge", quick_judge)
    monkeypatch.setattr(evaluation, "_DRAWN_PER_CLASS", 20)
    save_model(make_generator(), SHAPE, tmp_path)
    write_held_out(read_split(data).held_out, tmp_path)
    found = evaluate_generator(tmp_path, read_split(data), trial=AugmentationTrial(real_per_class=5, seeds=2))
    figures = {figure.name: figure for figure in found.figures}
    assert set(figures) == {
        "frechet_distance",
        "frechet_distance_of_training_images",
        "class_accuracy",
        "class_accuracy_of_held_out_images",
        "sample_frechet_distance",
        "sample_neighbour_accuracy",
        "augmented_accuracy",
    }
    assert all(np.isfinite(figure.value) for figure in found.figures)
    noise = figures["frechet_distance"].baseline
    assert noise is not None
    assert figures["frechet_distance_of_training_images"].value < noise
    assert figures["augmented_accuracy"].baseline is not None
    assert set(found.sheets) == {"classes", "interpolations", "truncation"}
    assert any("5 real images a class" in note and "162 labelled" in note for note in found.notes)


def test_every_tenth_image_of_a_class_is_held_out_and_none_is_in_both(data: Path) -> None:
    split = read_split(data)
    assert split.held_out.classes.bincount().tolist() == [6, 6, 6]
    assert split.train.classes.bincount().tolist() == [54, 54, 54]
    seen = {bytes(image.numpy().tobytes()) for image in split.train.images}
    assert not any(bytes(image.numpy().tobytes()) in seen for image in split.held_out.images)


def test_digits_are_read_from_the_package(tmp_path: Path) -> None:
    folder = tmp_path / "package" / "src" / "digits"
    folder.mkdir(parents=True)
    for digit in range(10):
        grey = np.zeros((digit + 1, 28, 28))
        grey[:, 3, 4] = digit / 9
        (folder / f"{digit}.json").write_text(json.dumps({"data": grey.flatten().tolist()}))
    found = read_digits(tmp_path)
    assert [tuple(images.shape) for images in found] == [(digit + 1, 1, 28, 28) for digit in range(10)]
    assert [int(images[-1, 0, 3, 4]) for images in found] == [round(255 * digit / 9) for digit in range(10)]


def test_emoji_are_laid_on_white_by_category(tmp_path: Path) -> None:
    pictures = tmp_path / "package" / "img" / "twitter" / "64"
    pictures.mkdir(parents=True)
    entries = [
        {"category": category, "has_img_twitter": drawn, "image": f"{i}.png", "sort_order": i}
        for i, (category, drawn) in enumerate(
            [("Objects", True), ("Flags", True), ("Objects", False), ("Symbols", True)]
        )
    ]
    (tmp_path / "package" / "emoji.json").write_text(json.dumps(entries))
    for entry in entries:
        Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(pictures / str(entry["image"]))
    objects, symbols = read_emoji(tmp_path, ["Objects", "Symbols"], 32)
    assert objects.shape == symbols.shape == (1, 3, 32, 32)
    assert (objects == 255).all(), "what is transparent becomes white"


@pytest.mark.parametrize("recipe", [DigitsGan(), EmojiGan()], ids=lambda recipe: recipe.name)
def test_a_recipe_s_weights_keep_to_their_budget(recipe: DigitsGan | EmojiGan, tmp_path: Path) -> None:
    shape = recipe.arena.generator
    save_model(make_generator(shape), shape, tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < recipe.max_bytes
    assert shape.image_size == {"digits-gan": 28, "emoji-gan": 32}[recipe.name]
