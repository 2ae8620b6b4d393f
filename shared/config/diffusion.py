"""Owns the configuration of the diffusion family."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from shared.config.base import ConfigModel, ModelConfig, ServiceConfig
from shared.schemas.images import Solver


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


class DiffusionService(ServiceConfig):
    family: Literal["diffusion"]
    models: tuple[DiffusionModel, ...] = Field(min_length=1)
