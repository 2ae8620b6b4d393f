"""Owns the configuration of the flow family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field

from shared.config.base import ModelConfig, ServiceConfig
from shared.config.costs import rows_of
from shared.schemas.embeddings import EmbeddingRequest
from shared.schemas.images import InterpolationRequest
from shared.schemas.records import RecordGenerationRequest
from shared.schemas.scores import ScoreRequest

# What counts until the model's own numbers are known.
USUAL_CLASSES = 10
USUAL_COLUMNS = 20


class ImageFlowModel(ModelConfig):
    """A class-conditional normalizing flow of images. It computes in float32: less would not be invertible."""

    TASKS: ClassVar = ("image", "interpolation", "score", "embedding")
    MODALITIES: ClassVar = ("image",)

    kind: Literal["image"]
    dtype: str = Field(default="float32", pattern=r"^float32$")
    max_batch_size: int = Field(default=64, ge=1, le=1024)

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """In passes of the flow: one draws an image; a given one takes one for each class that it may be of."""
        classes = limits.get("classes", USUAL_CLASSES)
        match body:
            case InterpolationRequest():
                given = [end for end in (body.start, body.end) if end.image is not None]
                each = 1 + sum(1.0 if end.prompt.strip() else classes for end in given)
            case ScoreRequest():
                each = 1.0 if body.prompt.strip() else classes
            case EmbeddingRequest():
                each = classes
            case _:
                each = 1.0
        return rows_of(body) * each


class RecordFlowModel(ModelConfig):
    """A normalizing flow of the rows of a table."""

    TASKS: ClassVar = ("record", "score", "embedding")
    MODALITIES: ClassVar = ("record",)

    kind: Literal["record"]
    dtype: str = Field(default="float32", pattern=r"^float32$")
    max_batch_size: int = Field(default=256, ge=1, le=1024)

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """In passes of the flow: a record is drawn column by column, and read at once."""
        each = limits.get("columns", USUAL_COLUMNS) if isinstance(body, RecordGenerationRequest) else 1.0
        return rows_of(body) * each


class FlowService(ServiceConfig):
    family: Literal["flow"]
    models: tuple[Annotated[ImageFlowModel | RecordFlowModel, Field(discriminator="kind")], ...] = Field(min_length=1)
