"""Owns the image responses: what the gateway answers to generations, edits, variations and interpolations.

The gateway writes these bodies by hand; the classes document them in `/openapi.json` and check them in tests.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.schemas.common import ResponseModel

OutputFormat = Literal["png", "jpeg", "webp"]
Base64 = Field(description="the file's bytes in base64")
Sha256 = Field(description="of the file's bytes, in hexadecimal: the same request gives the same")
RowSeed = Field(description="draws this very image again: the same request with this seed, and n of 1")
ModelSteps = Field(description="steps that the model takes for the image")


class InputTokensDetails(ResponseModel):
    text_tokens: int
    image_tokens: int


class ImageUsage(ResponseModel):
    """`input_tokens` are the prompt's, counted once; `output_tokens` are the model's units of work, such as steps."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    total_tokens: int


class Picture(ResponseModel):
    b64_json: str = Base64
    seed: int = RowSeed
    sha256: str = Sha256
    width: int
    height: int
    steps: int = ModelSteps


class Images(ResponseModel):
    """OpenAI's `ImagesResponse`, with what makes each image again."""

    created: int
    background: Literal["opaque"]
    output_format: OutputFormat
    size: str
    usage: ImageUsage
    data: list[Picture]


class _ImageEvent(ResponseModel):
    """What every event of an image stream has. `index` tells the `n` images apart."""

    created_at: int
    size: str
    quality: Literal["auto"]
    background: Literal["opaque"]
    output_format: OutputFormat
    index: int
    seed: int = RowSeed
    steps: int = ModelSteps
    b64_json: str = Base64


class PartialImageEvent(_ImageEvent):
    """A preview: the image as the model would finish it, `step` of `steps` taken.

    A preview that the client was too slow to take is replaced by the next.
    """

    type: Literal["image_generation.partial_image", "image_edit.partial_image", "image_variation.partial_image"]
    partial_image_index: int
    step: int


class CompletedImageEvent(_ImageEvent):
    """An image: one such event for each of the `n`."""

    type: Literal["image_generation.completed", "image_edit.completed", "image_variation.completed"]
    sha256: str = Sha256
    width: int
    height: int
    usage: ImageUsage


class Frame(ResponseModel):
    """`position` is 0 at the start and 1 at the end."""

    position: float
    b64_json: str = Base64
    sha256: str = Sha256
    width: int
    height: int
    steps: int = ModelSteps


class Interpolation(ResponseModel):
    object: Literal["interpolation"]
    created: int
    model: str
    output_format: OutputFormat
    size: str
    seed: int = Field(description="the same request with this seed gives the same frames")
    usage: ImageUsage
    frames: list[Frame]
