"""Owns the programs that have a text continued: their answers come as streams."""

from __future__ import annotations

from typing import ClassVar

from loadtests.prompts import text_of
from loadtests.sse import TextStream
from loadtests.users.asks import Ask, Modality, Wish
from loadtests.users.base import LoadUser
from shared.schemas.text import CompletionRequest, StreamOptions


class Completions(Modality):
    task: ClassVar[str] = "completion"
    path: ClassVar[str] = "/v1/completions"
    piece: ClassVar[str] = "token"
    about_given: ClassVar[bool] = False

    @staticmethod
    def draw(wish: Wish) -> Ask:
        request = CompletionRequest(
            model=wish.target.model,
            prompt=text_of(wish.lengths.prompt, wish.rng),
            max_tokens=wish.lengths.answer,
            stream=True,
            stream_options=StreamOptions(include_usage=True),
            **wish.options,
        )
        return Ask(request, TextStream())


class CompletionUser(LoadUser):
    asks_for = Completions.task
