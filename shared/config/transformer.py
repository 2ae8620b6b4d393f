"""Owns the configuration of the transformer family."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import ByteSize, Field

from shared.config.base import ConfigModel, ModelConfig, ServiceConfig


class SamplingDefaults(ConfigModel):
    """What a request that leaves these out gets. The values here are OpenAI's: the model's own distribution."""

    temperature: float = Field(default=1.0, ge=0, le=2)
    top_k: int = Field(default=0, ge=0, description="0: no limit")
    top_p: float = Field(default=1.0, gt=0, le=1)
    min_p: float = Field(default=0.0, ge=0, le=1)


class TransformerModel(ModelConfig):
    """A decoder-only causal language model. `cache_memory` bounds its key-value cache."""

    TASKS: ClassVar = ("chat", "completion", "tokenize", "detokenize")
    MODALITIES: ClassVar = ("text",)

    context_length: int | None = Field(default=None, ge=16, description="None: the model's own, at most 2048")
    cache_memory: ByteSize = Field(default=ByteSize(256 * 2**20), gt=0)
    sampling: SamplingDefaults = SamplingDefaults()
    prefill_tokens: int = Field(default=64, ge=1, description="the most prompt tokens that one step reads for a row")


class TransformerService(ServiceConfig):
    family: Literal["transformer"]
    models: tuple[TransformerModel, ...] = Field(min_length=1)
