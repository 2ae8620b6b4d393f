"""Owns reconstructions: given things as a model sees them, and how far that is from what was given."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from shared.schemas.common import ResponseModel, refusal
from shared.schemas.image_results import Base64, OutputFormat, Sha256
from shared.schemas.images import MAX_STEPS, Seed
from shared.schemas.items import GivenItems, ItemList, Value


class ReconstructionRequest(GivenItems):
    """`steps`: sweeps of a Markov chain, of models that have one. `seed`: of what a reconstruction draws."""

    steps: int | None = Field(default=None, ge=1, le=MAX_STEPS)
    seed: Seed | None = None
    output_format: OutputFormat = "png"
    output_compression: int | None = Field(default=None, ge=0, le=100, description="quality of jpeg and webp")

    @model_validator(mode="after")
    def _compression_needs_a_lossy_format(self) -> ReconstructionRequest:
        if self.output_compression is not None and self.output_format == "png":
            raise refusal("output_compression", "output_compression is only allowed for jpeg and webp")
        return self


class ReconstructedImage(ResponseModel):
    b64_json: str = Base64
    sha256: str = Sha256
    width: int
    height: int


class Reconstruction(ResponseModel):
    """`image` or `record`, as the input was. `error` is the mean over pixels (in [0, 1]) or scaled columns."""

    object: Literal["reconstruction"] = "reconstruction"
    index: int
    metric: Literal["mean_squared_error"] = "mean_squared_error"
    error: float
    image: ReconstructedImage | None = None
    record: dict[str, Value] | None = None
    seed: int | None = None


class Reconstructions(ItemList):
    data: list[Reconstruction]
