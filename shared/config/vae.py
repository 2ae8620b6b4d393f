"""Owns the configuration of the vae family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field

from shared.config.base import ModelConfig, ServiceConfig
from shared.config.costs import rows_of
from shared.schemas.scores import Metric, ScoreRequest

# What a score may be, the usual one first, and the draws of each when a request does not say how many.
SAMPLES: Mapping[Metric, int] = {"elbo": 16, "importance_weighted_bound": 64}


class _VaeModel(ModelConfig):
    max_batch_size: int = Field(default=64, ge=1, le=1024)

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """A pass of the decoder is the unit: a draw of a score takes one, and so does whatever else is asked for."""
        if not isinstance(body, ScoreRequest):
            return float(rows_of(body))
        return float(rows_of(body) * (body.samples or SAMPLES.get(body.metric or "elbo", 1)))


class ImageVaeModel(_VaeModel):
    """An autoencoder of images of classes."""

    TASKS: ClassVar = ("image", "variation", "interpolation", "embedding", "reconstruction", "score")
    MODALITIES: ClassVar = ("image",)

    kind: Literal["image"]


class RecordVaeModel(_VaeModel):
    """An autoencoder of the rows of a table."""

    TASKS: ClassVar = ("record", "embedding", "reconstruction", "score")
    MODALITIES: ClassVar = ("record",)

    kind: Literal["record"]


class VaeService(ServiceConfig):
    family: Literal["vae"]
    models: tuple[Annotated[ImageVaeModel | RecordVaeModel, Field(discriminator="kind")], ...] = Field(min_length=1)
