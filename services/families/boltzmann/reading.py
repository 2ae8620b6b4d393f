"""Owns what a machine makes of given images: how likely under each class, and which hidden units they turn on.

Everything here is float64, and none of it is drawn: an image's reading does not depend on what is read beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from services.families.boltzmann.energy import bernoulli_entropy
from services.families.boltzmann.model import Machine


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """Of B images, under each of K classes; float64.

    evidence (B, K): log sum exp(-E(v, rest | y)) over all that is hidden, which is minus the free energy. Of a deep
    machine it is the variational lower bound of that. odd (B, K, H), top (B, K, T): means of the hidden units.
    """

    evidence: Tensor
    odd: Tensor
    top: Tensor
    class_bias: Tensor  # (K,)

    @property
    def posterior(self) -> Tensor:
        """p(y | v) (B, K)."""
        return torch.softmax(self.evidence + self.class_bias, dim=1)

    @property
    def hidden(self) -> Tensor:
        """Means of all hidden units whatever the class (B, H + T): sum_y p(y | v) E[h | v, y]."""
        return torch.einsum("bk,bkh->bh", self.posterior, torch.cat([self.odd, self.top], dim=2))


class Reader:
    """Reads images by one machine."""

    def __init__(self, machine: Machine) -> None:
        self.energy = machine.energy.to(torch.float64)
        self.partition = self.energy.weight.new_tensor(machine.config.log_partition)  # (K,)
        self.partition_error = self.energy.weight.new_tensor(machine.config.log_partition_error)
        # With these each class is equally likely: log Z of the whole is then log_total.
        self.class_bias = self.partition.mean() - self.partition
        self.log_total = self.partition.mean() + self.energy.weight.new_tensor(len(self.partition)).log()

    @property
    def classes(self) -> int:
        return len(self.class_bias)

    def read(self, visible: Tensor) -> Reading:
        """visible (B, D) of 0 and 1, on whatever device."""
        count, classes = len(visible), self.classes
        rows = visible.to(self.energy.weight).repeat_interleave(classes, dim=0)  # (B K, D)
        labels = torch.arange(classes, device=rows.device).repeat(count)
        top = self.energy.top_means(rows, labels)
        even = torch.cat([rows, top], dim=1)
        evidence = bernoulli_entropy(top) - self.energy.free_energy(even, labels)
        odd = torch.sigmoid(self.energy.odd_input(even, labels))
        return Reading(
            evidence.view(count, classes),
            odd.view(count, classes, -1),
            top.view(count, classes, -1),
            self.class_bias,
        )

    def reconstruct(self, reading: Reading) -> Tensor:
        """(B, D): the pixels' means given the hidden units' means, averaged over the classes by p(y | v)."""
        count, classes, _ = reading.odd.shape
        labels = torch.arange(classes, device=reading.odd.device).repeat(count)
        size = self.energy.weight.shape[0] - reading.top.shape[2]
        means = torch.sigmoid(self.energy.even_input(reading.odd.flatten(0, 1), labels)[:, :size])
        return torch.einsum("bk,bkd->bd", reading.posterior, means.view(count, classes, size))
