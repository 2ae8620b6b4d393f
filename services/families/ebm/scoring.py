"""Owns the one pass that gives images' energies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from services.families.ebm.model import EnergyNet, energy_of
from services.families.ebm.params import ScoreParams


@dataclass(frozen=True, slots=True)
class ScoreChunk:
    """`energy` in nats, up to a constant of the model; of the class `label`, or of all for ANY_CLASS."""

    energy: float
    label: int


class EnergyPass:
    """Implements `services.nn.one_shot.Pass`: images of any classes share it."""

    def __init__(self, net: EnergyNet) -> None:
        self.net = net

    def __call__(self, rows: Sequence[ScoreParams]) -> list[ScoreChunk | None]:
        weight = next(self.net.parameters())
        images = torch.stack([row.image for row in rows]).to(weight) / 127.5 - 1
        labels = torch.tensor([row.label for row in rows], device=weight.device)
        energies = energy_of(self.net(images), labels)
        finite = energies.isfinite().tolist()
        return [
            ScoreChunk(energy, row.label) if is_finite else None
            for row, energy, is_finite in zip(rows, energies.tolist(), finite, strict=True)
        ]
