"""Owns the programs that ask how likely things are, some at once, by the model's usual metric."""

from __future__ import annotations

from typing import ClassVar

from loadtests.users.asks import Ask, Modality, Wish
from loadtests.users.base import LoadUser
from loadtests.users.lists import ask_for_list, some_given
from shared.schemas.scores import ScoreRequest

MOST = 8


class Score(Modality):
    task: ClassVar[str] = "score"
    path: ClassVar[str] = "/v1/scores"
    piece: ClassVar[str] = "item"
    about_given: ClassVar[bool] = True

    @staticmethod
    def draw(wish: Wish) -> Ask:
        return ask_for_list(
            ScoreRequest(model=wish.target.model, input=some_given(wish, most=MOST), stream=wish.streams())
        )


class ScoreUser(LoadUser):
    asks_for = Score.task
