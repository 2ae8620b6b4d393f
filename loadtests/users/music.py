"""Owns the people who have tunes written."""

from __future__ import annotations

from typing import ClassVar

from loadtests.users.asks import Ask, Modality, Wish
from loadtests.users.base import LoadUser
from loadtests.users.lists import ask_for_list
from shared.schemas.music import MusicGenerationRequest

MOST = 2


class Music(Modality):
    task: ClassVar[str] = "music"
    path: ClassVar[str] = "/v1/music/generations"
    piece: ClassVar[str] = "tune"
    about_given: ClassVar[bool] = False

    @staticmethod
    def draw(wish: Wish) -> Ask:
        return ask_for_list(
            MusicGenerationRequest(
                model=wish.target.model,
                n=wish.rng.randint(1, MOST),
                stream=wish.streams(),
            )
        )


class MusicUser(LoadUser):
    asks_for = Music.task
