"""Owns the configuration of the gan family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from shared.config.base import ModelConfig, ServiceConfig
from shared.config.costs import rows_of


class GanModel(ModelConfig):
    """A conditional generator of images."""

    TASKS: ClassVar = ("image", "interpolation")
    MODALITIES: ClassVar = ("image",)

    max_batch_size: int = Field(default=64, ge=1, le=1024)

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """A pass of the generator is the unit, and an image takes one."""
        return float(rows_of(body))


class GanService(ServiceConfig):
    family: Literal["gan"]
    models: tuple[GanModel, ...] = Field(min_length=1)
