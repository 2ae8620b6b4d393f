"""Owns the measuring of a published energy: what it draws, and what it makes of given images."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from services.families.ebm.anomalies import anomaly_figures, energies
from services.families.ebm.drawing import chain_sheet, class_sheet, draw_classes, load_energy, temperature_sheet
from services.families.ebm.model import EnergyNet
from services.training.held_out import read_held_out
from services.training.image_data import ImageSet, Split
from services.training.image_figures import class_figures, distance_note, sample_figures
from services.training.judge import train_judge
from services.training.recipe import Evaluation, Figure


def evaluate_energy(weights: Path, split: Split, strange: Tensor) -> Evaluation:
    """Every figure and sheet of a folder of weights. `strange`: images (N, C, H, W) in [-1, 1] of another kind."""
    net = load_energy(weights)
    sample = read_held_out(weights, classes=len(net.config.classes), channels=net.config.channels)
    draw = partial(draw_classes, net)
    figures = [
        *class_figures(draw, train_judge(split.train), split),
        *sample_figures(draw, sample),
        *anomaly_figures(net, split, strange),
        *energy_figures(net, split.held_out, sample),
    ]
    sheets = {
        "classes": class_sheet(net, columns=12),
        "chains": chain_sheet(net, columns=12),
        "temperature": temperature_sheet(net, columns=10, temperatures=(0.25, 0.5, 1.0, 1.5)),
    }
    note = (
        f"Images are drawn by {net.config.sweeps} sweeps of Langevin dynamics at a rate of {net.config.rate:g}, noise "
        f"falling from a deviation of {net.config.high:g} to {net.config.low:g} in pixels from -1 to 1; what is "
        "shown is the clean estimate of the last sample."
    )
    return Evaluation(figures, sheets, [note, distance_note(split)])


def energy_figures(net: EnergyNet, held_out: ImageSet, sample: ImageSet) -> Iterator[Figure]:
    """What the energies say of classes, and of the sample that lies beside the weights."""
    chance = 1 / len(net.config.classes)
    yield Figure(
        "energy_class_accuracy",
        least_energy_accuracy(net, held_out),
        "higher",
        tolerance=0.01,
        baseline=chance,
        baseline_name="chance",
        meaning="how often the class of least energy is that of a held-out image",
    )
    yield Figure(
        "sample_energy_class_accuracy",
        least_energy_accuracy(net, sample),
        "higher",
        tolerance=0.01,
        baseline=chance,
        baseline_name="chance",
        meaning="the same of the committed sample of held-out images",
    )
    yield Figure(
        "sample_energy",
        energies(net, sample.units()).mean().item(),
        "lower",
        tolerance=0.5,
        meaning="mean energy of that sample over all classes, in nats up to a constant",
    )


@torch.no_grad()
def least_energy_accuracy(net: EnergyNet, images: ImageSet) -> float:
    return (net(images.units()).argmin(dim=1) == images.classes).float().mean().item()
