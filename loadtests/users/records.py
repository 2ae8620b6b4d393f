"""Owns the programs that draw synthetic records, a table at a time."""

from __future__ import annotations

from typing import ClassVar

from loadtests.users.asks import Ask, Modality, Wish
from loadtests.users.base import LoadUser
from loadtests.users.lists import ask_for_list
from shared.schemas.records import RecordGenerationRequest

MOST = 100


class Record(Modality):
    task: ClassVar[str] = "record"
    path: ClassVar[str] = "/v1/records/generations"
    piece: ClassVar[str] = "record"
    about_given: ClassVar[bool] = False

    @staticmethod
    def draw(wish: Wish) -> Ask:
        return ask_for_list(
            RecordGenerationRequest(
                model=wish.target.model,
                n=wish.rng.randint(1, MOST),
                stream=wish.streams(),
            )
        )


class RecordUser(LoadUser):
    asks_for = Record.task
