"""Owns the configuration of the ebm family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from shared.config.base import ModelConfig, ServiceConfig
from shared.config.costs import rows_of
from shared.schemas.images import ImageSampling

USUAL_STEPS = 50  # sweeps; what counts until the model's own number is known


class EbmModel(ModelConfig):
    """An energy of images, drawn from by Langevin dynamics."""

    TASKS: ClassVar = ("image", "variation", "score")
    MODALITIES: ClassVar = ("image",)

    max_batch_size: int = Field(default=64, ge=1, le=1024)
    sweeps_per_step: int = Field(default=5, ge=1, le=100, description="Langevin sweeps that a chain takes at once")

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """A sweep is the unit: images x sweeps, or one for each image to score; `limits` say the usual sweeps."""
        sweeps = 1.0
        if isinstance(body, ImageSampling):
            sweeps = body.steps or limits.get("default_steps", USUAL_STEPS)
        return rows_of(body) * sweeps


class EbmService(ServiceConfig):
    family: Literal["ebm"]
    models: tuple[EbmModel, ...] = Field(min_length=1)
