"""Owns the configuration of the gan family."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from shared.config.base import ModelConfig, ServiceConfig


class GanModel(ModelConfig):
    """A conditional generator of images."""

    TASKS: ClassVar = ("image", "interpolation")
    MODALITIES: ClassVar = ("image",)

    max_batch_size: int = Field(default=64, ge=1, le=1024)


class GanService(ServiceConfig):
    family: Literal["gan"]
    models: tuple[GanModel, ...] = Field(min_length=1)
