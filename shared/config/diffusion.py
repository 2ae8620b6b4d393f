"""Owns the configuration of the diffusion family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from shared.config.base import ConfigModel, ModelConfig, ServiceConfig
from shared.schemas.images import ImageSampling, Solver

USUAL_STEPS = 50  # of most checkpoints; what counts until the model's own number is known


class DiffusionDefaults(ConfigModel):
    """What a request that leaves these out gets. None: as the checkpoint says."""

    steps: int | None = Field(default=None, ge=1, le=1000)
    guidance_scale: float | None = Field(default=None, ge=0, le=50)
    solver: Solver | None = None


class DiffusionModel(ModelConfig):
    """A diffusion or flow-matching model: an embedded one, or a diffusers checkpoint (see the family's README)."""

    TASKS: ClassVar = ("image", "edit", "variation", "interpolation")
    MODALITIES: ClassVar = ("image",)

    sampling: DiffusionDefaults = DiffusionDefaults()
    max_pixels: int = Field(default=1024 * 1024, ge=64, description="the largest image that a request may ask for")

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """In forward passes of one sample: images x steps x samples in a step, of which a guided image has two.

        `limits` holds what the checkpoint says of the last two, as `default_steps` and `max_entries`.
        """
        if not isinstance(body, ImageSampling):
            return 1.0
        steps = body.steps or self.sampling.steps or limits.get("default_steps", USUAL_STEPS)
        scale = self.sampling.guidance_scale if body.guidance_scale is None else body.guidance_scale
        entries = 1.0 if scale == 1.0 else limits.get("max_entries", 2.0)
        return body.images * steps * entries


class DiffusionService(ServiceConfig):
    family: Literal["diffusion"]
    models: tuple[DiffusionModel, ...] = Field(min_length=1)
