"""Owns what a task asks of whatever turns messages into a prompt, and what it may be asked with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.nn.text.call_formats import CallFormat
from shared.errors import InvalidRequest
from shared.schemas.text import ChatMessage
from shared.schemas.tools import FunctionTool, tools_text


class ConversationEncoder(Protocol):
    """From messages, and the tools that may be called, to ids, ending where the assistant's answer begins.

    `calls`: the format in which the model calls tools; None: it cannot, and `encode` gets none.
    """

    @property
    def calls(self) -> CallFormat | None: ...

    def encode(self, messages: Sequence[ChatMessage], tools: Sequence[FunctionTool] = ()) -> list[int]: ...


def check_tools_of(encoder: ConversationEncoder, tools: Sequence[FunctionTool] | None) -> None:
    """Raises InvalidRequest where there are tools, and the model cannot call any."""
    if tools and encoder.calls is None:
        raise InvalidRequest("This model cannot call tools.", param="tools", code="unsupported_parameter")


def characters_of(messages: Sequence[ChatMessage], tools: Sequence[FunctionTool] | None) -> int:
    """What a conversation and its tools hold at least."""
    called = sum(len(call.function.arguments) for message in messages for call in message.calls)
    return called + sum(len(message.text) for message in messages) + (len(tools_text(tools)) if tools else 0)
