"""Owns the programs that draw molecules, a list at a time."""

from __future__ import annotations

from typing import ClassVar

from loadtests.users.asks import Ask, Modality, Wish
from loadtests.users.base import LoadUser
from loadtests.users.lists import ask_for_list
from shared.schemas.molecules import MoleculeGenerationRequest

MOST = 50


class Molecule(Modality):
    task: ClassVar[str] = "molecule"
    path: ClassVar[str] = "/v1/molecules/generations"
    piece: ClassVar[str] = "molecule"
    about_given: ClassVar[bool] = False

    @staticmethod
    def draw(wish: Wish) -> Ask:
        return ask_for_list(
            MoleculeGenerationRequest(
                model=wish.target.model,
                n=wish.rng.randint(1, MOST),
                scaffold=wish.rng.choice(wish.inputs.scaffold),
                stream=wish.streams(),
            )
        )


class MoleculeUser(LoadUser):
    asks_for = Molecule.task
