"""Owns the recipes of the published models: data, sizes, schedules. How they are trained and measured is elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from services.families.gan.adversarial import AdversarialTraining, Arena
from services.families.gan.evaluation import AugmentationTrial, evaluate_generator
from services.families.gan.model import GeneratorConfig
from services.nn.classes import DIGITS, EMOJI_GROUPS
from services.nn.weights import save_model
from services.training.held_out import write_held_out
from services.training.image_data import read_digits, read_emoji, read_split, write_split
from services.training.packages import EMOJI, MNIST, MNIST_LICENCE, TWEMOJI_LICENCE
from services.training.recipe import Evaluation, Licence, Package, Schedule


class _GanRecipe:
    """What both recipes do alike with what each declares."""

    family: str = "gan"
    max_bytes: int = 3 * 2**20
    schedule: Schedule = Schedule(
        steps=8000, batch_size=64, warmup=100, decay="cosine", clip=10.0, validate_every=1000, precision="bf16"
    )
    arena: Arena

    def build(self, data: Path, seed: int) -> AdversarialTraining:
        return AdversarialTraining(self.arena, read_split(data), seed)

    def export(self, modules: Mapping[str, nn.Module], data: Path, folder: Path) -> None:
        """config.json, model.safetensors, and a sample of the held-out images."""
        save_model(modules["generator"], self.arena.generator, folder)
        write_held_out(read_split(data).held_out, folder)


class DigitsGan(_GanRecipe):
    """Handwritten digits, 28x28, by digit."""

    name: str = "digits-gan"
    version: int = 1
    summary: str = (
        "Draws handwritten digits of 28x28 pixels, white on black, of the digit asked for.\n\n"
        "A class-conditional GAN: hinge loss, a projection discriminator with spectral norm (Miyato 2018, "
        "[arXiv:1802.05637](https://arxiv.org/abs/1802.05637)), and a generator of transposed convolutions modulated "
        "by class and latent, published as its exponential moving average. One pass draws an image."
    )
    packages: Sequence[Package] = (MNIST,)
    licence: Licence = MNIST_LICENCE
    arena: Arena = Arena(
        GeneratorConfig(
            classes=DIGITS,
            channels=1,
            base_size=7,
            widths=(128, 64),
            latent_size=64,
            style_size=128,
        ),
        discriminator_widths=(32, 64, 128),
        augmentations=(),
    )

    def preprocess(self, collected: Mapping[str, Path], folder: Path) -> None:
        write_split(folder, read_digits(collected[MNIST.name]))

    def evaluate(self, weights: Path, data: Path) -> Evaluation:
        return evaluate_generator(weights, read_split(data), trial=AugmentationTrial(real_per_class=20, seeds=5))


class EmojiGan(_GanRecipe):
    """Emoji, 32x32, by category."""

    name: str = "emoji-gan"
    version: int = 1
    summary: str = (
        "Draws emoji of 32x32 pixels on white, of the category asked for: shapes and colours of the kind, seldom a "
        "thing with a name, for some 1,500 images are few.\n\n"
        "A class-conditional GAN: hinge loss, a projection discriminator with spectral norm (Miyato 2018, "
        "[arXiv:1802.05637](https://arxiv.org/abs/1802.05637)), differentiable augmentation (Zhao 2020, "
        "[arXiv:2006.10738](https://arxiv.org/abs/2006.10738)), and a generator of transposed convolutions modulated "
        "by class and latent, published as its exponential moving average. One pass draws an image."
    )
    packages: Sequence[Package] = (EMOJI,)
    licence: Licence = TWEMOJI_LICENCE
    arena: Arena = Arena(
        GeneratorConfig(
            classes=EMOJI_GROUPS, channels=3, base_size=4, widths=(192, 96, 48), latent_size=64, style_size=96
        ),
        discriminator_widths=(32, 64, 128),
        augmentations=("colour", "translation", "cutout"),
    )

    def preprocess(self, collected: Mapping[str, Path], folder: Path) -> None:
        names = [each.name for each in self.arena.generator.classes]
        write_split(folder, read_emoji(collected[EMOJI.name], names, self.arena.generator.image_size))

    def evaluate(self, weights: Path, data: Path) -> Evaluation:
        return evaluate_generator(weights, read_split(data), trial=None)
