"""Owns images and likelihoods in bulk, for measuring and for sheets. Serving goes through the sampler."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from services.families.neural_ode.images.density import hutchinson, log_likelihood
from services.families.neural_ode.images.model import FlowConfig, VelocityField
from services.families.neural_ode.images.pixels import log_volume, to_space, to_unit
from services.families.neural_ode.solvers import METHODS, solve
from services.nn.weights import load_model

SEED = 20240601  # of all that evaluations and sheets draw
_ROWS = 64  # at a time


@dataclass(frozen=True, slots=True)
class Solver:
    """A method by name, and its number of steps."""

    method: str = "midpoint"
    steps: int = 10


def load_flow(folder: Path) -> VelocityField:
    """In float32 on the CPU, as evaluations need it whatever serves it."""
    return load_model(VelocityField, FlowConfig, folder, dtype=torch.float32, device=torch.device("cpu"))


def noise(model: VelocityField, count: int, seed: int = SEED) -> Tensor:
    """(N, D) standard normal."""
    return torch.randn(count, model.config.dimensions, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def draw(model: VelocityField, start: Tensor, class_weights: Tensor, solver: Solver) -> Tensor:
    """float32 (N, C, H, W) in [-1, 1] on the CPU, of noise (N, D) and class weights (N, K + 1)."""
    config, method = model.config, METHODS[solver.method]
    device = model.patches.weight.device
    parts = [
        solve(model.given(weights.to(device)), x.to(device), 0.0, 1.0, steps=solver.steps, method=method).cpu()
        for x, weights in zip(start.split(_ROWS), class_weights.split(_ROWS), strict=True)
    ]
    return to_unit(torch.cat(parts)).view(-1, config.channels, config.image_size, config.image_size)


def draw_classes(model: VelocityField, classes: Tensor, solver: Solver, seed: int = SEED) -> Tensor:
    """An image of each class in `classes` int64 (N,)."""
    return draw(model, noise(model, len(classes), seed), model.one_hot(classes), solver)


@torch.no_grad()
def likelihoods(
    model: VelocityField, levels: Tensor, solver: Solver, *, classes: Tensor | None = None, seed: int = SEED
) -> Tensor:
    """Estimates (N,) in nats of one draw each, of images uint8 (N, C, H, W) given their classes (N,), or none."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.full((len(levels),), model.no_class) if classes is None else classes
    found: list[Tensor] = []
    for part, given in zip(levels.split(_ROWS), model.one_hot(labels).split(_ROWS), strict=True):
        rest = torch.rand(part.shape, generator=draws)
        probes = torch.randint(2, (len(part), model.config.dimensions), generator=draws).float() * 2 - 1
        nats = log_likelihood(
            model.given(given),
            to_space(part, rest).flatten(1),
            hutchinson(probes),
            steps=solver.steps,
            method=METHODS[solver.method],
        )
        found.append(nats + log_volume(part, rest))
    return torch.cat(found)
