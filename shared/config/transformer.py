"""Owns the configuration of the transformer family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, ByteSize, Field

from shared.config.base import ConfigModel, ModelConfig, ServiceConfig
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


class TransformerModel(ModelConfig):
    """A decoder-only causal language model. `cache_memory` bounds its key-value cache, shared prefixes included."""

    TASKS: ClassVar = ("chat", "completion", "tokenize", "detokenize")
    MODALITIES: ClassVar = ("text",)

    context_length: int | None = Field(default=None, ge=16, description="None: the model's own, at most 2048")
    cache_memory: ByteSize = Field(default=ByteSize(256 * 2**20), gt=0)
    sampling: SamplingDefaults = SamplingDefaults()
    prefill_tokens: int = Field(default=64, ge=1, description="the most prompt tokens that one step reads for a row")
    prefix_cache: bool = Field(
        default=True, description="read a beginning that a tenant's prompts share once, in pieces of prefill_tokens"
    )

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """A token is the unit: `n` times what the prompts can hold, and what may follow, within the context each.

        A text has no more tokens than bytes. Tokenize and detokenize never meet the model: one unit.
        """
        context = limits.get("context_length", self.context_length or USUAL_CONTEXT)
        if isinstance(body, ChatRequest):
            prompts, wanted = [CHAT_TOKENS + sum(map(_message_tokens, body.messages))], body.max_new_tokens
        elif isinstance(body, CompletionRequest):
            prompts, wanted = [_prompt_tokens(prompt) for prompt in body.prompts], body.max_tokens
        else:
            return 1.0
        new = context if wanted is None else wanted
        return float(body.n * sum(min(context, prompt + new) for prompt in prompts))


class TransformerService(ServiceConfig):
    family: Literal["transformer"]
    models: tuple[TransformerModel, ...] = Field(min_length=1)


def _message_tokens(message: ChatMessage) -> int:
    return MESSAGE_TOKENS + len(message.text.encode()) + len(message.name or "")


def _prompt_tokens(prompt: str | list[int]) -> int:
    return SPECIAL_TOKENS + len(prompt.encode()) if isinstance(prompt, str) else len(prompt)
