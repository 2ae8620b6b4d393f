"""Owns the configuration of the boltzmann family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from shared.config.base import ModelConfig, ServiceConfig
from shared.config.costs import rows_of
from shared.schemas.images import MAX_STEPS, ImageSampling
from shared.schemas.reconstructions import ReconstructionRequest
from shared.schemas.scores import MAX_SAMPLES, ScoreRequest

DRAWS_A_UNIT = 10  # of a score: each asks about a pixel, which takes a tenth of a sweep or less


class BoltzmannModel(ModelConfig):
    """A restricted or deep Boltzmann machine of images."""

    TASKS: ClassVar = ("image", "edit", "reconstruction", "embedding", "score")
    MODALITIES: ClassVar = ("image",)

    dtype: str = Field(
        default="float32",
        pattern=r"^float32$",
        description="float32 alone: a chain's sums are exact in it, so that no batch-mate changes a draw",
    )
    max_batch_size: int = Field(default=64, ge=1, le=1024)
    sweeps: int = Field(default=200, ge=1, le=MAX_STEPS, description="of an image whose request says no `steps`")

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """A sweep of block Gibbs is the unit, and one pass up and down the layers costs as much."""
        rows = float(rows_of(body))
        if isinstance(body, ImageSampling):
            return rows * (body.steps or self.sweeps)
        if isinstance(body, ReconstructionRequest):
            return rows * (body.steps or 1)
        if isinstance(body, ScoreRequest):
            return rows * score_cost(MAX_SAMPLES if body.samples is None else body.samples)
        return rows


def score_cost(draws: int) -> float:
    """Of one score with so many draws, in units."""
    return 1 + draws / DRAWS_A_UNIT


class BoltzmannService(ServiceConfig):
    family: Literal["boltzmann"]
    models: tuple[BoltzmannModel, ...] = Field(min_length=1)
