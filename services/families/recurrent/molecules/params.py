"""Owns what a molecule's row needs to run, and what it gives: plain data between task and sampler."""

from __future__ import annotations

from dataclasses import dataclass, replace

from services.nn.rng import derive_seed
from services.nn.text.params import GenerateParams

# What a molecule is predicted to take: those of drug-like size have 37 tokens on average, and seldom more than 45.
USUAL_TOKENS = 40


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is to be said of a molecule beside its SMILES."""

    properties: bool = True
    drawing: bool = False


@dataclass(frozen=True, slots=True)
class MoleculeParams:
    """One molecule that begins with `scaffold`; drawn anew until it is valid, `attempts` times at most.

    `first` is the first attempt, whose prompt is BOS and the scaffold, and whose answer comes whole.
    """

    first: GenerateParams
    scaffold: str
    attempts: int
    wishes: Wishes
    task: str = "molecule"

    @property
    def cost(self) -> float:
        """A token is the unit. Nearly all molecules are valid at the first attempt, so that one counts."""
        return float(min(max(USUAL_TOKENS, len(self.first.prompt) + 1), self.first.length))

    def attempt(self, number: int) -> GenerateParams:
        """The `number`-th attempt, from 1: each draws from a seed of its own."""
        return self.first if number == 1 else replace(self.first, seed=derive_seed(self.first.seed, number))


@dataclass(frozen=True, slots=True)
class MoleculeChunk:
    """A drawn SMILES, in which attempt, and the row that it is of."""

    smiles: str
    attempts: int
    params: MoleculeParams
