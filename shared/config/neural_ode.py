"""Owns the configuration of the neural_ode family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ByteSize, Field, model_validator

from shared.config.base import ModelConfig, ServiceConfig
from shared.config.costs import rows_of
from shared.schemas.forecasts import ForecastRequest
from shared.schemas.images import ImageSampling
from shared.schemas.scores import ScoreRequest

EVALUATIONS = {"euler": 1, "midpoint": 2, "rk4": 4}  # of the field, a step
GRADIENT_PASSES = 3  # what an evaluation counts that a gradient goes back through
USUAL_SOLVER_STEPS = 100  # of a forecast, until the model's own limits are known


class OdeImageModel(ModelConfig):
    """A continuous normalizing flow of images: drawn by `steps` of `method`, scored by `score_steps`.

    `max_batch_size` counts paths: an image is one, and a score has one for each of its samples.
    """

    TASKS: ClassVar = ("image", "interpolation", "score")
    MODALITIES: ClassVar = ("image",)

    kind: Literal["image"]
    max_batch_size: int = Field(default=32, ge=1, le=1024)
    method: Literal["euler", "midpoint", "rk4"] = "midpoint"
    steps: int = Field(default=10, ge=1, le=1000)
    score_steps: int = Field(default=16, ge=1, le=1000)
    samples: int = Field(default=4, ge=1, description="draws of a score, where a request says nothing")

    @model_validator(mode="after")
    def _a_score_fits_a_batch(self) -> OdeImageModel:
        if self.samples > self.max_batch_size:
            raise ValueError(f"samples ({self.samples}) is over max_batch_size ({self.max_batch_size})")
        return self

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """A pass of the field over one image is the unit."""
        steps = self.steps
        if isinstance(body, ScoreRequest):
            samples = self.samples if body.samples is None else body.samples
            steps = self.score_steps * samples * GRADIENT_PASSES
        elif isinstance(body, ImageSampling) and body.steps is not None:
            steps = body.steps
        return float(rows_of(body) * steps * EVALUATIONS[self.method])


class OdeSeriesModel(ModelConfig):
    """A latent ODE of series. `path_memory` bounds what the paths of running forecasts keep."""

    TASKS: ClassVar = ("forecast",)
    MODALITIES: ClassVar = ("series",)

    kind: Literal["series"]
    samples: int = Field(default=100, ge=1, le=1000, description="paths of a forecast, where a request says nothing")
    path_memory: ByteSize = Field(default=ByteSize(64 * 2**20), gt=0)

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """A solver step of a path is the unit: each time takes a step of its own, and the farthest way its steps."""
        if not isinstance(body, ForecastRequest):
            return 1.0
        samples = self.samples if body.samples is None else body.samples
        times = len(body.times or ()) or body.horizon or 0
        farthest = limits["max_intervals"] / limits["max_step"] if "max_step" in limits else USUAL_SOLVER_STEPS
        return float(body.rows * samples * (times + farthest))


class NeuralOdeService(ServiceConfig):
    family: Literal["neural_ode"]
    models: tuple[Annotated[OdeImageModel | OdeSeriesModel, Field(discriminator="kind")], ...] = Field(min_length=1)
