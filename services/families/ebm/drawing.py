"""Owns images of chosen classes in bulk, for measuring and for sheets. Serving draws through the sampler."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from services.families.ebm.langevin import Sweep, annealed
from services.families.ebm.model import EnergyConfig, EnergyNet
from services.nn.weights import load_model
from services.training.sheets import grid

_ROWS = 100  # at a time
SEED = 20240601  # of the noise that evaluations and sheets draw


def load_energy(folder: Path) -> EnergyNet:
    """In float32 on the CPU, as evaluations need it whatever serves it."""
    return load_model(EnergyNet, EnergyConfig, folder, dtype=torch.float32, device=torch.device("cpu"))


@torch.no_grad()
def draw_classes(
    net: EnergyNet, classes: Tensor, *, sweeps: int | None = None, temperature: float = 1.0, seed: int = SEED
) -> Tensor:
    """An image of each class in `classes` int64 (N,): float32 (N, C, H, W) on the CPU, in [-1, 1] but for rounding."""
    draws = torch.Generator().manual_seed(seed)
    return torch.cat([_draw(net, part, sweeps, temperature, draws)[-1] for part in classes.split(_ROWS)])


def _draw(
    net: EnergyNet, classes: Tensor, sweeps: int | None, temperature: float, draws: torch.Generator
) -> list[Tensor]:
    """The clean estimates after each sweep, (B, C, H, W) on the CPU."""
    config = net.config
    chain = annealed(sweeps or config.sweeps, rate=config.rate, high=config.high, low=config.low)
    device, shape = net.centre.device, (len(classes), *net.centre.shape)
    x = net.centre + chain.start * torch.randn(shape, generator=draws).to(device)
    seen: list[Tensor] = []
    for sweep in chain.sweeps:
        residual = net.residual(x, classes.to(device))
        seen.append((x - residual).cpu())
        x = x - sweep.rate * residual + _spread(sweep, temperature) * torch.randn(shape, generator=draws).to(device)
    return seen


def _spread(sweep: Sweep, temperature: float) -> float:
    return sweep.noise * temperature**0.5


def class_sheet(net: EnergyNet, *, columns: int) -> Image.Image:
    """A row a class, each image from noise of its own."""
    names = [each.name for each in net.config.classes]
    return grid(draw_classes(net, torch.arange(len(names)).repeat_interleave(columns)), columns, names)


@torch.no_grad()
def chain_sheet(net: EnergyNet, *, columns: int) -> Image.Image:
    """A row a class: what a chain seems to be without noise, from its first sweep to its last."""
    names = [each.name for each in net.config.classes]
    seen = _draw(net, torch.arange(len(names)), None, 1.0, torch.Generator().manual_seed(SEED))
    shown = [round(at) for at in torch.linspace(0, len(seen) - 1, columns).tolist()]
    return grid(torch.stack([seen[at] for at in shown], dim=1).flatten(0, 1), columns, names)


def temperature_sheet(net: EnergyNet, *, columns: int, temperatures: Sequence[float]) -> Image.Image:
    """A row a temperature, the same noise and classes in every row."""
    classes = torch.arange(columns) % len(net.config.classes)
    images = torch.cat([draw_classes(net, classes, temperature=each) for each in temperatures])
    return grid(images, columns, [f"temperature {each:g}" for each in temperatures])
