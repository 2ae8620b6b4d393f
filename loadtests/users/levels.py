"""Owns the games that have levels drawn."""

from __future__ import annotations

from typing import ClassVar

from loadtests.users.asks import Ask, Modality, Wish
from loadtests.users.base import LoadUser
from loadtests.users.lists import ask_for_list
from shared.schemas.levels import LevelGenerationRequest

MOST = 2


class Level(Modality):
    task: ClassVar[str] = "level"
    path: ClassVar[str] = "/v1/levels/generations"
    piece: ClassVar[str] = "level"
    about_given: ClassVar[bool] = False

    @staticmethod
    def draw(wish: Wish) -> Ask:
        return ask_for_list(
            LevelGenerationRequest(
                model=wish.target.model,
                n=wish.rng.randint(1, MOST),
                stream=wish.streams(),
            )
        )


class LevelUser(LoadUser):
    asks_for = Level.task
