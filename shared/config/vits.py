"""Owns the configuration of the vits family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from shared.config.base import ModelConfig, ServiceConfig
from shared.schemas.audio import SpeechRequest

# No letter, digit or sign is read as more phonemes: the longest are names of emoji.
_PHONEMES_PER_CHARACTER = 64


class VitsModel(ModelConfig):
    """One voice of Piper's, which says texts of a language."""

    TASKS: ClassVar = ("speech",)
    MODALITIES: ClassVar = ("audio",)

    device: str = Field(default="cpu", pattern=r"^cpu$")
    dtype: str = Field(default="float32", pattern=r"^float32$")
    max_batch_size: int = Field(default=8, ge=1, le=1024)
    voice: str = Field(min_length=1, max_length=256, description="what requests call it by")
    temperature: float = Field(default=1.0, gt=0, le=2, description="of a request that leaves it out")
    gap_s: float = Field(default=0.2, ge=0, le=2, description="silence between sentences, in seconds")
    max_phonemes: int = Field(default=8192, ge=1, le=65536, description="the most that a request may say")

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """A phoneme at speed 1 is the unit."""
        if not isinstance(body, SpeechRequest):
            return 1.0
        return min(len(body.input) * _PHONEMES_PER_CHARACTER, self.max_phonemes) / body.speed


class VitsService(ServiceConfig):
    family: Literal["vits"]
    models: tuple[VitsModel, ...] = Field(min_length=1)
