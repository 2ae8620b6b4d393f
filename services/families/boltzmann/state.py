"""Owns what the sampler keeps of a running chain: its units, how far it is, and what it draws from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from services.families.boltzmann.params import ChainParams


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """Where a chain is. A step makes new ones and draws from a copy of `generator`: committing is one assignment."""

    sweep: int  # sweeps made
    even: Tensor  # (E,) of 0 and 1
    label: int | None  # None: the image that the chain starts from was not read yet
    generator: torch.Generator


@dataclass(slots=True, eq=False)
class ChainState:
    """A running row: which even units stay as they are, bool (E,), and its progress."""

    params: ChainParams
    known: Tensor
    progress: Progress


def thresholds(generator: torch.Generator, shape: tuple[int, ...], temperature: float) -> Tensor:
    """Draw how great log-odds must be for units to turn on: float32, T log(u / (1 - u)) for uniform u in [0, 1).

    x exceeds it with probability sigmoid(x / T). Drawn on the CPU from the row's own generator, so that neither
    batch-mates nor the device change a draw.
    """
    return temperature * torch.logit(torch.rand(shape, generator=generator))
