"""Owns the programs that turn things into vectors, some at once."""

from __future__ import annotations

from typing import ClassVar

from loadtests.users.asks import Ask, Modality, Wish
from loadtests.users.base import LoadUser
from loadtests.users.lists import ask_for_list, some_given
from shared.schemas.embeddings import EmbeddingRequest

MOST = 8


class Embedding(Modality):
    task: ClassVar[str] = "embedding"
    path: ClassVar[str] = "/v1/embeddings"
    piece: ClassVar[str] = "item"
    about_given: ClassVar[bool] = True

    @staticmethod
    def draw(wish: Wish) -> Ask:
        """In base64, as OpenAI's clients ask for them."""
        given = some_given(wish, most=MOST)
        return ask_for_list(EmbeddingRequest(model=wish.target.model, input=given, encoding_format="base64"))


class EmbeddingUser(LoadUser):
    asks_for = Embedding.task
