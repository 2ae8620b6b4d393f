"""Owns a machine as it is published and served: its shape, its weights, and the grid on which they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from services.families.boltzmann.energy import Energy
from services.nn.classes import ImageClass
from services.nn.errors import UnsupportedModel
from services.nn.weights import ModelShape, load_model

MODEL_TYPE = "castalia-boltzmann"
THRESHOLD = 128  # of 255: from here on a pixel is on
# Every published weight is a multiple of it. States are 0 or 1, so that the input of a unit is a sum of such multiples:
# in float32 it is exact while it stays below 2**24 of them, whatever the order of summation. A chain is a row of
# comparisons of such sums, and so is the same to the last bit in any batch and on any device.
GRID = 2.0**-13
_EXACT = 2.0**24 * GRID


class MachineConfig(ModelShape):
    """Content of config.json. Images are squares; `top` is 0 of a restricted machine.

    log_partition, log_partition_error: log Z of each class by annealed importance sampling, and its standard error.
    """

    model_type: Literal["castalia-boltzmann"] = MODEL_TYPE
    classes: Annotated[tuple[ImageClass, ...], Field(min_length=1)]
    side: int = Field(ge=1)
    hidden: int = Field(ge=1)
    top: int = Field(default=0, ge=0)
    log_partition: tuple[float, ...] = ()
    log_partition_error: tuple[float, ...] = ()

    @property
    def visible(self) -> int:
        return self.side**2

    @property
    def even(self) -> int:
        """Units of the even layers: the pixels first, then the top ones."""
        return self.visible + self.top


class Machine(nn.Module):
    """The published weights. `base` (K, E): log-odds of independent even units, where chains and annealing start."""

    def __init__(self, config: MachineConfig) -> None:
        super().__init__()
        self.config = config
        classes = len(config.classes)
        self.weight = nn.Parameter(torch.zeros(config.even, config.hidden))
        self.even_bias = nn.Parameter(torch.zeros(classes, config.even))
        self.odd_bias = nn.Parameter(torch.zeros(classes, config.hidden))
        self.base = nn.Parameter(torch.zeros(classes, config.even))

    @property
    def energy(self) -> Energy:
        return Energy(self.weight, self.even_bias, self.odd_bias)

    @torch.no_grad()
    def snap(self) -> Machine:
        """Move every weight to the grid, and to what half precision keeps of it; frozen, in evaluation mode."""
        for parameter in self.parameters():
            parameter.copy_(((parameter / GRID).round() * GRID).half().float())
        return self.eval().requires_grad_(False)

    def check(self) -> None:
        """Raises UnsupportedModel for weights whose sums float32 might round, and for classes without a log Z."""
        sums = max(
            _largest_sum(self.weight, self.odd_bias),
            _largest_sum(self.weight.T, self.even_bias),
        )
        on_grid = all(bool((each / GRID == (each / GRID).round()).all()) for each in self.parameters())
        if not on_grid or sums >= _EXACT:
            raise UnsupportedModel("the machine", f"its weights must be multiples of {GRID}, and sum to below {_EXACT}")
        if not len(self.config.log_partition) == len(self.config.log_partition_error) == len(self.config.classes):
            raise UnsupportedModel("the machine", "its config.json must have a log_partition for each class")


def load_machine(folder: Path, device: torch.device) -> Machine:
    """A published machine, in float32. Raises UnsupportedModel for another kind of model, and as `check` does."""
    machine = load_model(Machine, MachineConfig, folder, dtype=torch.float32, device=device)
    machine.check()
    return machine


def _largest_sum(weight: Tensor, bias: Tensor) -> float:
    """The most that the input of a unit can be: weight (N, M), bias (K, M)."""
    return float((weight.abs().sum(0) + bias.abs().amax(0)).max())


def binary(pixels: Tensor) -> Tensor:
    """uint8 (B, 1, S, S) or (1, S, S) -> bool (B, D) or (D,): which pixels are on."""
    return (pixels >= THRESHOLD).flatten(-3)
