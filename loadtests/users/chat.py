"""Owns the people who chat: their answers come as streams."""

from __future__ import annotations

from typing import ClassVar

from loadtests.prompts import text_of
from loadtests.sse import TextStream
from loadtests.users.asks import Ask, Modality, Wish
from loadtests.users.base import LoadUser
from shared.schemas.text import ChatMessage, ChatRequest, StreamOptions


class Chat(Modality):
    task: ClassVar[str] = "chat"
    path: ClassVar[str] = "/v1/chat/completions"
    piece: ClassVar[str] = "token"
    about_given: ClassVar[bool] = False

    @staticmethod
    def draw(wish: Wish) -> Ask:
        request = ChatRequest(
            model=wish.target.model,
            messages=[ChatMessage(role="user", content=text_of(wish.lengths.prompt, wish.rng))],
            max_tokens=wish.lengths.answer,
            stream=True,
            stream_options=StreamOptions(include_usage=True),
            **wish.options,
        )
        return Ask(request, TextStream())


class ChatUser(LoadUser):
    asks_for = Chat.task
