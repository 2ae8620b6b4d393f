"""Owns the configuration of models that make text, token by token: sampling defaults, and the bound of a cost."""

from __future__ import annotations

from pydantic import BaseModel, Field

from shared.config.base import ConfigModel
from shared.schemas.text import ChatMessage, ChatRequest, CompletionRequest

USUAL_CONTEXT = 2048  # the most that a model without `context_length` serves
# What a chat template writes around contents, at most: a system message of its own, and the marks of each message.
CHAT_TOKENS = 96
MESSAGE_TOKENS = 16
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
        prompts, wanted = [CHAT_TOKENS + sum(map(message_tokens, body.messages))], body.max_new_tokens
    elif isinstance(body, CompletionRequest):
        prompts, wanted = [prompt_tokens(prompt) for prompt in body.prompts], body.max_tokens
    else:
        return 1.0
    new = context if wanted is None else wanted
    return float(body.n * sum(min(context, prompt + new) for prompt in prompts))


def message_tokens(message: ChatMessage) -> int:
    """What a chat template makes of it, at most."""
    return MESSAGE_TOKENS + len(message.text.encode()) + len(message.name or "")


def prompt_tokens(prompt: str | list[int]) -> int:
    """Tokens of a prompt, at most."""
    return SPECIAL_TOKENS + len(prompt.encode()) if isinstance(prompt, str) else len(prompt)
