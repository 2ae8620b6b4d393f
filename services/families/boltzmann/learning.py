"""Owns learning by persistent contrastive divergence. Knows no data set by name.

The loss of a class is the mean free energy of its images less that of its chains, whose gradient is that of minus the
log-likelihood where the chains are at equilibrium (Hinton 2002; Younes 1989; Tieleman 2008, "Training restricted
Boltzmann machines using approximations to the likelihood gradient"). Of a deep machine the images' term is the
variational one, at the mean-field means of the top units (Salakhutdinov & Hinton 2009, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from PIL import Image
from torch import Tensor, nn

from services.families.boltzmann.bulk import guesses, log_likelihoods, read_all
from services.families.boltzmann.drawing import class_sheet
from services.families.boltzmann.energy import Energy, flips, sweep
from services.families.boltzmann.model import Machine, MachineConfig, binary
from services.families.boltzmann.partition import Partition, anneal
from services.families.boltzmann.reading import Reader
from services.training.image_data import ImageSet, Split
from services.training.recipe import Phase

_CENTRE = 0.5  # of odd and top units, whose biases start at 0


@dataclass(frozen=True, slots=True)
class Lesson:
    """How a machine is taught. `chains` of each class make `sweeps` sweeps a step, and a share `restarts` starts anew.

    Chains that never start anew learn to be right after ten thousands of sweeps; those that clients wait for make some
    hundreds. `sheet_sweeps` are of the pictures on the way.
    """

    shape: MachineConfig
    chains: int
    sweeps: int
    restarts: float
    learning_rate: float
    weight_decay: float
    sheet_sweeps: int


class CentredMachine(nn.Module):
    """A machine in the making: -E(x, h | y) = b_y . x + d_y . h + (x - m) W (h - 1/2).

    m is what a unit's mean is at first. Any machine can be written so; its gradient is better conditioned, and a deep
    one learns all layers at once (Montavon & Mueller 2012, "Deep Boltzmann machines and the centering trick").
    """

    centre: Tensor
    base: Tensor

    def __init__(self, shape: MachineConfig, base: Tensor, seed: int) -> None:
        super().__init__()
        self.shape = shape
        classes = len(shape.classes)
        draws = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(0.01 * torch.randn(shape.even, shape.hidden, generator=draws))
        self.even_bias = nn.Parameter(base.clone())
        self.odd_bias = nn.Parameter(torch.zeros(classes, shape.hidden))
        self.register_buffer("base", base)
        self.register_buffer("centre", torch.sigmoid(base).mean(0))

    def energy(self) -> Energy:
        """The same machine without centres: its energy differs by a constant, which no gradient of the loss sees."""
        return Energy(
            self.weight,
            self.even_bias - _CENTRE * self.weight.sum(1),
            self.odd_bias - self.centre @ self.weight,
        )

    @torch.no_grad()
    def published(self) -> Machine:
        """As it is served: without centres, on the grid. It has no log Z yet."""
        machine, energy = Machine(self.shape), self.energy()
        for parameter, value in (
            (machine.weight, energy.weight),
            (machine.even_bias, energy.even_bias),
            (machine.odd_bias, energy.odd_bias),
            (machine.base, self.base),
        ):
            parameter.copy_(value.cpu())
        return machine.snap()


class Chains(nn.Module):
    """Persistent chains: `even` uint8 (K * chains, E), so many of each class, class by class.

    They are a buffer of a module of the run, and so are in its checkpoints: a run that goes on has the chains where
    they were, and draws what the uninterrupted one would. Whole numbers are no average of anything, so that workers
    keep each its own; a run of several goes on from the first one's.
    """

    even: Tensor

    def __init__(self, base: Tensor, chains: int, seed: int) -> None:
        super().__init__()
        labels = torch.arange(len(base)).repeat_interleave(chains)
        self.chains = chains
        self.register_buffer("even", flips(base[labels], torch.Generator().manual_seed(seed)).to(torch.uint8))

    @property
    def labels(self) -> Tensor:
        return torch.arange(len(self.even), device=self.even.device) // self.chains

    @torch.no_grad()
    def advance(self, energy: Energy, base: Tensor, lesson: Lesson, generator: torch.Generator) -> Tensor:
        """Start some anew, make the sweeps, keep the chains. Returns them (N, E) in the dtype of `base`."""
        labels = self.labels
        anew = torch.rand(len(labels), 1, generator=generator).to(base.device) < lesson.restarts
        even = torch.where(anew, flips(base[labels], generator), self.even.to(base))
        for _ in range(lesson.sweeps):
            even, _ = sweep(energy, even, labels, generator)
        self.even.copy_(even)
        return even


class PersistentTraining:
    """Implements `services.training.recipe.Training`."""

    averaged: Sequence[str] = ("machine",)

    def __init__(self, lesson: Lesson, split: Split, seed: int) -> None:
        self._lesson, self._split = lesson, split
        base = base_rates(split.train, lesson.shape)
        self._machine = CentredMachine(lesson.shape, base, seed)
        self._chains = Chains(base, lesson.chains, seed + 1)
        self._train, self._held_out = (binary(part.images).float() for part in (split.train, split.held_out))

    @property
    def phases(self) -> Sequence[Phase]:
        lesson = self._lesson
        return (Phase("machine", ("machine",), lesson.learning_rate, (0.9, 0.999), lesson.weight_decay),)

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"machine": self._machine, "chains": self._chains}

    @property
    def examples(self) -> int:
        return len(self._train)

    def batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images float32 (B, D) of 0 and 1, and their classes (B,)."""
        return self._train[indices], self._split.train.classes[indices]

    def loss(
        self, phase: str, modules: Mapping[str, nn.Module], batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        """Classes count alike, whatever their shares in the batch are; one that it lacks is left out."""
        machine, chains = cast(CentredMachine, modules["machine"]), cast(Chains, modules["chains"])
        energy = machine.energy()
        images, classes = batch
        drawn = chains.advance(energy, machine.base, self._lesson, generator)
        with torch.no_grad():
            even = torch.cat([images, energy.top_means(images, classes)], dim=1)
        real = energy.free_energy(even, classes)
        free = energy.free_energy(drawn, chains.labels)
        counts = torch.bincount(classes, minlength=len(machine.base))
        there = (counts > 0).to(real)
        loss = (real / counts[classes]).sum() - (free * there[chains.labels]).sum() / chains.chains
        return loss / there.sum(), {"images": real.mean().item(), "chains": free.mean().item()}

    def validate(self, modules: Mapping[str, nn.Module]) -> Mapping[str, float]:
        """Minus the mean log-likelihood of held-out images, or its bound, by a quick estimate of log Z; in nats."""
        machine = cast(CentredMachine, modules["machine"]).published()
        reader = Reader(with_partition(machine, quick_partition(machine)))
        evidence = read_all(reader, self._held_out).evidence
        right = guesses(reader, evidence) == self._split.held_out.classes
        return {
            "metric": -log_likelihoods(reader, evidence).mean().item(),
            "class_accuracy": right.float().mean().item(),
        }

    def sample(self, modules: Mapping[str, nn.Module]) -> Image.Image:
        machine = cast(CentredMachine, modules["machine"]).published()
        return class_sheet(machine, columns=12, sweeps=self._lesson.sheet_sweeps)


def base_rates(images: ImageSet, shape: MachineConfig) -> Tensor:
    """float32 (K, E): the log-odds of each pixel in each class, smoothed by one image of each kind; 0 of top units."""
    on = binary(images.images).double()
    rates = [
        (on[images.classes == k].sum(0) + 1) / ((images.classes == k).sum() + 2) for k in range(len(shape.classes))
    ]
    return torch.nn.functional.pad(torch.logit(torch.stack(rates)), (0, shape.top)).float()


def quick_partition(machine: Machine) -> Partition:
    return anneal(machine.energy, machine.base, chains=10, temperatures=300, seed=0)


def with_partition(machine: Machine, partition: Partition) -> Machine:
    """The machine, whose config.json holds its log Z."""
    machine.config = machine.config.model_copy(
        update={
            "log_partition": tuple(round(value, 4) for value in partition.value.tolist()),
            "log_partition_error": tuple(round(value, 4) for value in partition.error.tolist()),
        }
    )
    return machine
