"""Tiny machines with random weights, whose every state can be summed over, and data to train one on."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from services.families.boltzmann.energy import Energy
from services.families.boltzmann.learning import with_partition
from services.families.boltzmann.model import Machine, MachineConfig
from services.families.boltzmann.partition import Partition
from services.nn.classes import ImageClass
from services.nn.weights import save_model
from services.training.image_data import write_split
from shared.config.boltzmann import BoltzmannModel

CLASSES = (
    ImageClass(name="0", words=("zero", "digit")),
    ImageClass(name="1", words=("one", "digit")),
    ImageClass(name="Food & Drink"),
)
RBM = MachineConfig(classes=CLASSES, side=3, hidden=4)
DBM = MachineConfig(classes=CLASSES, side=3, hidden=4, top=3)


def make_machine(shape: MachineConfig, seed: int = 0, spread: float = 0.7) -> Machine:
    """Random weights, on the grid; log Z is exact where all states can be summed over, else 0."""
    draws = torch.Generator().manual_seed(seed)
    machine = Machine(shape)
    for parameter in machine.parameters():
        parameter.data = spread * torch.randn(parameter.shape, generator=draws)
    machine.base.data[:, shape.visible :] = 0
    machine.snap()
    classes = len(shape.classes)
    value = exact_partition(machine.energy) if shape.even <= 16 else torch.zeros(classes)
    return with_partition(machine, Partition(value, torch.zeros(classes)))


def states(units: int) -> Tensor:
    """Every state of so many units: float64 (2**units, units)."""
    return (torch.arange(2**units)[:, None] >> torch.arange(units) & 1).double()


def exact_partition(energy: Energy) -> Tensor:
    """log Z float64 (K,): the sum over every state of even and odd units, by the energy itself."""
    return torch.logsumexp(joint(energy).flatten(1), 1)


def joint(energy: Energy) -> Tensor:
    """-E(x, h | y) of every state, float64 (K, 2**E, 2**H)."""
    even, odd = states(energy.weight.shape[0]), states(energy.weight.shape[1])
    weight, even_bias, odd_bias = energy.weight.double(), energy.even_bias.double(), energy.odd_bias.double()
    pair = torch.einsum("xe,eh,oh->xo", even, weight, odd)
    return pair + (even_bias @ even.T)[:, :, None] + (odd_bias @ odd.T)[:, None, :]


def exact_likelihoods(machine: Machine) -> Tensor:
    """log p(v | y) of every image, float64 (K, 2**D), hidden units summed out one by one."""
    log_joint, visible, top = joint(machine.energy), machine.config.visible, machine.config.top
    # States count in binary from the first unit on, so that the top ones change slowest.
    by_image = torch.logsumexp(log_joint, 2).view(len(log_joint), 2**top, 2**visible)
    whole = torch.logsumexp(by_image, 1)
    return whole - torch.logsumexp(whole, 1, keepdim=True)


def make_folder(folder: Path, shape: MachineConfig = RBM) -> Path:
    machine = make_machine(shape)
    save_model(machine, machine.config, folder)
    return folder


def tiny_config(folder: Path, **options: object) -> BoltzmannModel:
    return BoltzmannModel.model_validate({"id": "tiny-machine", "source": f"file://{folder}", **options})


def make_classes(count: int, side: int) -> list[Tensor]:
    """Three classes that a small machine tells apart: a bright left half, right half or top, with noise.

    Every other image has its last row in negative, so that pixels of a class are not independent.
    """
    draws = torch.Generator().manual_seed(0)
    classes: list[Tensor] = []
    for label in range(3):
        images = torch.randint(0, 140, (count, 1, side, side), generator=draws)
        half = [images[..., : side // 2], images[..., side // 2 :], images[..., : side // 2, :]][label]
        half += 110
        images[1::2, :, -1] = 255 - images[1::2, :, -1]
        classes.append(images.to(torch.uint8))
    return classes


def make_data(folder: Path, count: int = 60, side: int = 6) -> Path:
    write_split(folder, make_classes(count, side))
    return folder


def data_url(pixels: Tensor) -> str:
    """A PNG of grey pixels uint8 (H, W)."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def picture(side: int, seed: int = 0) -> Tensor:
    """uint8 (side, side) of all greys."""
    return torch.randint(0, 256, (side, side), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
