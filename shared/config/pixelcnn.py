"""Owns the configuration of the pixelcnn family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field

from shared.config.base import ModelConfig, ServiceConfig
from shared.config.costs import rows_of
from shared.schemas.levels import LevelGenerationRequest
from shared.schemas.scores import ScoreRequest

# What counts until the model's own numbers are known: rows of an image or a canvas of tiles, and classes.
_USUAL_HEIGHT, _USUAL_CLASSES = 28, 10


class PixelCnnImageModel(ModelConfig):
    """Draws images row by row, fills masked parts, and says how likely given images are."""

    TASKS: ClassVar = ("image", "edit", "score")
    MODALITIES: ClassVar = ("image",)

    kind: Literal["image"]

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """A row of pixels is the unit; a score costs one for each class that it is taken over."""
        if isinstance(body, ScoreRequest):
            classes = 1.0 if body.prompt.strip() else limits.get("classes", _USUAL_CLASSES)
            return body.rows * classes
        return rows_of(body) * limits.get("height", _USUAL_HEIGHT)


class PixelCnnLevelModel(ModelConfig):
    """Draws levels of a game, a row of tiles at a time."""

    TASKS: ClassVar = ("level",)
    MODALITIES: ClassVar = ("level",)

    kind: Literal["level"]
    temperature: float = Field(
        default=0.8, gt=0, le=2, description="of a request that leaves it out: less than 1 gives more playable levels"
    )
    max_nodes: int = Field(
        default=4000, ge=1, le=1_000_000, description="positions that the solver looks into before it gives a level up"
    )

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """A row of tiles is the unit; a level may take all its attempts."""
        attempts = body.attempts if isinstance(body, LevelGenerationRequest) else 1
        return float(rows_of(body) * attempts) * limits.get("height", _USUAL_HEIGHT)


class PixelCnnService(ServiceConfig):
    family: Literal["pixelcnn"]
    models: tuple[Annotated[PixelCnnImageModel | PixelCnnLevelModel, Field(discriminator="kind")], ...] = Field(
        min_length=1
    )
