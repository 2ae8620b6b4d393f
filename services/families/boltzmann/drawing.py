"""Owns chains in bulk and the pictures of them, for measuring and for cards. Serving draws through the sampler."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from services.families.boltzmann.energy import flips, sweep
from services.families.boltzmann.model import Machine
from services.training.sheets import grid

SEED = 20240601  # of what evaluations and sheets draw


@torch.inference_mode()
def draw_chains(machine: Machine, classes: Tensor, stops: list[int], seed: int = SEED) -> list[Tensor]:
    """A chain of each class in `classes` int64 (N,), looked at after each of `stops` sweeps, ascending.

    Pixels' means (N, 1, S, S) in [-1, 1] at each stop; at 0 sweeps, the states that chains start from.
    """
    generator = torch.Generator().manual_seed(seed)
    energy, side, size = machine.energy, machine.config.side, machine.config.visible
    even = flips(machine.base[classes], generator)
    means, done, looks = even, 0, list[Tensor]()
    for stop in stops:
        for _ in range(stop - done):
            even, log_odds = sweep(energy, even, classes, generator)
            means = torch.sigmoid(log_odds)
        done = stop
        looks.append(2 * means[:, :size].reshape(-1, 1, side, side) - 1)
    return looks


def draw_classes(machine: Machine, classes: Tensor, sweeps: int) -> Tensor:
    """An image (1, S, S) in [-1, 1] of each class in `classes`, the same each time."""
    return draw_chains(machine, classes, [sweeps])[0]


def class_sheet(machine: Machine, *, columns: int, sweeps: int) -> Image.Image:
    """A row a class, each image a chain of its own."""
    names = [each.name for each in machine.config.classes]
    classes = torch.arange(len(names)).repeat_interleave(columns)
    return grid(draw_classes(machine, classes, sweeps), columns, names)


def chain_sheet(machine: Machine, stops: list[int]) -> Image.Image:
    """A row a class: one chain on its way."""
    names = [each.name for each in machine.config.classes]
    looks = draw_chains(machine, torch.arange(len(names)), stops)
    return grid(torch.stack(looks, 1).flatten(0, 1), len(stops), names)


def filter_sheet(machine: Machine, *, columns: int, rows: int) -> Image.Image:
    """Weights between the pixels and the hidden units that have the largest; black is negative, white positive."""
    side, size = machine.config.side, machine.config.visible
    weight = machine.weight[:size].T  # (H, D)
    largest = weight.norm(dim=1).argsort(descending=True)[: columns * rows]
    chosen = weight[largest]
    scaled = chosen / chosen.abs().amax(1, keepdim=True).clamp(min=1e-6)
    return grid(scaled.view(-1, 1, side, side), columns, [""] * rows)
