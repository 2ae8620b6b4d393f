"""Owns the configuration of the transformer family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, ByteSize, Field

from shared.config.base import ModelConfig, ServiceConfig
from shared.config.text import USUAL_CONTEXT, SamplingDefaults, text_bound


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
        """As `text_bound`."""
        return text_bound(body, limits.get("context_length", self.context_length or USUAL_CONTEXT))


class TransformerService(ServiceConfig):
    family: Literal["transformer"]
    models: tuple[TransformerModel, ...] = Field(min_length=1)
