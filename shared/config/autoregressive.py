"""Owns the configuration of the autoregressive family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field

from shared.config.base import ModelConfig, ServiceConfig
from shared.schemas.audio import AudioGenerationRequest, SpeechRequest

# What counts until the model's own numbers are known: frames of the longest clip, and of a second.
_USUAL_FRAMES, _USUAL_RATE = 400, 500


class WaveModel(ModelConfig):
    """What both kinds share.

    A clip is thousands of choices, and each bears on all that follow it: in float64 rounding as good as never falls
    between two, so that a seed gives its clip alone and in any batch.
    """

    dtype: str = Field(default="float64", pattern=r"^(float64|float32|bfloat16|float16)$")


class WaveSpeechModel(WaveModel):
    """A WaveNet of words, said one after the other."""

    TASKS: ClassVar = ("speech",)
    MODALITIES: ClassVar = ("audio",)

    kind: Literal["speech"]
    temperature: float = Field(default=0.3, gt=0, le=2, description="of a request that leaves it out")
    gap_s: float = Field(default=0.12, ge=0, le=2, description="silence between words, in seconds")
    max_words: int = Field(default=64, ge=1, le=2048, description="the most that a request may say")

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """A frame is the unit. A word has a letter at least, and no request has more words than the model says."""
        words = len(body.input) if isinstance(body, SpeechRequest) else 1
        return min(words, self.max_words) * limits.get("max_frames", _USUAL_FRAMES)


class WaveSoundModel(WaveModel):
    """A WaveNet of single sounds, by class."""

    TASKS: ClassVar = ("sound",)
    MODALITIES: ClassVar = ("audio",)

    kind: Literal["sound"]
    temperature: float = Field(default=0.8, gt=0, le=2, description="of a request that leaves it out")

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """A frame is the unit."""
        if not isinstance(body, AudioGenerationRequest):
            return 1.0
        longest = limits.get("max_frames", _USUAL_FRAMES)
        if body.seconds is not None:
            longest = min(longest, max(1.0, body.seconds * limits.get("frames_per_second", _USUAL_RATE)))
        return body.n * longest


class AutoregressiveService(ServiceConfig):
    family: Literal["autoregressive"]
    models: tuple[Annotated[WaveSpeechModel | WaveSoundModel, Field(discriminator="kind")], ...] = Field(min_length=1)
