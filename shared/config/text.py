"""Owns the configuration of models that make text, token by token: sampling defaults, and the bound of a cost."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, Field

from shared.config.base import ConfigModel
from shared.schemas.text import ChatMessage, ChatRequest, CompletionRequest
from shared.schemas.tools import FunctionTool, tools_text

USUAL_CONTEXT = 2048  # the most that a model without `context_length` serves
# What a chat template writes around contents, at most: a system message of its own, and the marks of each message.
CHAT_TOKENS = 96
MESSAGE_TOKENS = 16
TOOLS_TOKENS = 768  # and around tools: words on how to call them
CALL_TOKENS = 64  # and around a tool, a call, or its result
SPECIAL_TOKENS = 2  # that a tokenizer puts around a text


class SamplingDefaults(ConfigModel):
    """What a request that leaves these out gets. The values here are OpenAI's: the model's own distribution."""

    temperature: float = Field(default=1.0, ge=0, le=2)
    top_k: int = Field(default=0, ge=0, description="0: no limit")
    top_p: float = Field(default=1.0, gt=0, le=1)
    min_p: float = Field(default=0.0, ge=0, le=1)


def text_bound(body: BaseModel, context: float) -> float:
    """A token is the unit: `n` times what the prompts can hold, and what may follow, within the context each.

    A text has no more tokens than bytes. Tokenize and detokenize never meet the model: one unit.
    """
    if isinstance(body, ChatRequest):
        prompts, wanted = [conversation_tokens(body)], body.max_new_tokens
    elif isinstance(body, CompletionRequest):
        prompts, wanted = [prompt_tokens(prompt) for prompt in body.prompts], body.max_tokens
    else:
        return 1.0
    new = context if wanted is None else wanted
    return float(body.n * sum(min(context, prompt + new) for prompt in prompts))


def conversation_tokens(body: ChatRequest) -> int:
    """What a chat template makes of messages and tools, at most."""
    return CHAT_TOKENS + tools_tokens(body.callable_tools) + sum(map(message_tokens, body.messages))


def tools_tokens(tools: Sequence[FunctionTool]) -> int:
    """What a model is told of tools, at most."""
    return TOOLS_TOKENS + CALL_TOKENS * len(tools) + len(tools_text(tools, indent=4).encode()) if tools else 0


def message_tokens(message: ChatMessage) -> int:
    """What a chat template makes of it, at most."""
    called = sum(  # arguments twice: templates write spaces into them
        CALL_TOKENS + len(call.function.name) + 2 * len(call.function.arguments.encode()) for call in message.calls
    )
    around = MESSAGE_TOKENS + (CALL_TOKENS if message.role == "tool" else 0)
    return around + len(message.text.encode()) + len(message.name or "") + called


def prompt_tokens(prompt: str | list[int]) -> int:
    """Tokens of a prompt, at most."""
    return SPECIAL_TOKENS + len(prompt.encode()) if isinstance(prompt, str) else len(prompt)
