"""Owns the image requests: generations, edits, variations, interpolations (OpenAI's wire format, and sampling options).

An option that a model's family does not have is refused by the model, by name. Images come as `data:` URLs; an upload
in a form becomes one before it is checked.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from shared.schemas.common import RequestModel, refusal

Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Prompt = Annotated[str, Field(max_length=32000)]
# The body bounds it (CASTALIA_MAX_IMAGE_BODY), the model service its bytes and pixels, before it decodes them.
ImageUrl = Annotated[str, Field(min_length=1, description="a data: URL of a PNG, JPEG or WebP image, base64")]
Size = Annotated[str, Field(pattern=r"^(auto|[1-9][0-9]{0,3}x[1-9][0-9]{0,3})$", description="auto, or WIDTHxHEIGHT")]

FILE_FIELDS = frozenset({"image", "mask"})  # come as files in a form
MAX_IMAGES = 128
MAX_STEPS = 1000
MAX_PREVIEWS = 16
MAX_FRAMES = 64

Solver = Literal["ddim", "ddpm", "euler", "dpmpp_2m", "flow_euler"]


class ImageOutput(RequestModel):
    """How images are written. OpenAI's options that nothing here can vary are taken at their neutral value alone."""

    model: str = Field(min_length=1, max_length=256)
    size: Size = "auto"
    output_format: Literal["png", "jpeg", "webp"] = "png"
    output_compression: int | None = Field(default=None, ge=0, le=100, description="quality of jpeg and webp")
    response_format: Literal["b64_json"] = "b64_json"
    quality: Literal["auto", "standard"] = "auto"
    background: Literal["auto", "opaque"] = "auto"
    user: str | None = Field(default=None, max_length=512)

    @property
    def dimensions(self) -> tuple[int, int] | None:
        """(width, height) in pixels; None is the model's own."""
        if self.size == "auto":
            return None
        width, _, height = self.size.partition("x")
        return int(width), int(height)

    @model_validator(mode="after")
    def _compression_needs_a_lossy_format(self) -> ImageOutput:
        if self.output_compression is not None and self.output_format == "png":
            raise refusal("output_compression", "output_compression is only allowed for jpeg and webp")
        return self


class ImageSampling(ImageOutput):
    """How images are drawn. What is left out is as the model's checkpoint says."""

    seed: Seed | None = None
    steps: int | None = Field(default=None, ge=1, le=MAX_STEPS, description="denoising steps, or sweeps of a chain")
    guidance_scale: float | None = Field(default=None, ge=0.0, le=50.0, description="1 is no guidance")
    negative_prompt: Prompt | None = Field(default=None, description="what guidance leads away from")
    solver: Solver | None = Field(default=None, description="how a step is taken")
    truncation: float | None = Field(default=None, gt=0.0, le=2.0, description="scale of the latent; 1 is as trained")
    temperature: float | None = Field(default=None, gt=0.0, le=2.0, description="spread of what is drawn; 1 is as is")

    @property
    def images(self) -> int:
        """How many images the answer holds."""
        return 1

    @property
    def sampling_options(self) -> frozenset[str]:
        """Names of the options of some families alone that this request gives."""
        names = ("steps", "guidance_scale", "negative_prompt", "solver", "truncation", "temperature", "strength")
        return frozenset(name for name in names if getattr(self, name, None) is not None)


class ImageCall(ImageSampling):
    n: int = Field(default=1, ge=1, le=MAX_IMAGES)
    stream: bool = False
    partial_images: int | None = Field(default=None, ge=0, le=MAX_PREVIEWS, description="previews of each image")

    @property
    def images(self) -> int:
        return self.n

    @model_validator(mode="after")
    def _previews_need_stream(self) -> ImageCall:
        if self.partial_images is not None and not self.stream:
            raise refusal("partial_images", "partial_images is only allowed when stream is true")
        return self


class ImageGenerationRequest(ImageCall):
    """`prompt` describes the image; a class-conditional model takes a class's name, or "" for any class."""

    prompt: Prompt


class ImageEditRequest(ImageCall):
    """With `mask` (transparent, or black without an alpha channel, where the image may change) the rest stays as it is.

    Without it the whole image is drawn anew from its noised self; `strength` 1 keeps nothing of it.
    """

    image: ImageUrl
    mask: ImageUrl | None = None
    prompt: Prompt
    strength: float | None = Field(default=None, gt=0.0, le=1.0, description="how far the image may change")


class ImageVariationRequest(ImageCall):
    """Images near the given one."""

    image: ImageUrl
    prompt: Prompt = ""
    strength: float | None = Field(default=None, gt=0.0, le=1.0, description="how far the image may change")


class InterpolationEnd(RequestModel):
    """One end of an interpolation: what a seed draws, or where a model can, a given image."""

    seed: Seed | None = None
    image: ImageUrl | None = None
    prompt: Prompt = ""

    @model_validator(mode="after")
    def _one_origin(self) -> InterpolationEnd:
        if (self.seed is None) == (self.image is None):
            raise refusal("seed", "exactly one of seed and image must be given")
        return self


class InterpolationRequest(ImageSampling):
    """Frames from `start` to `end`, both included; `seed` is of what else is drawn at random, alike in all frames."""

    start: InterpolationEnd
    end: InterpolationEnd
    frames: int = Field(default=8, ge=2, le=MAX_FRAMES)

    @property
    def images(self) -> int:
        return self.frames


ImageRequest = ImageGenerationRequest | ImageEditRequest | ImageVariationRequest | InterpolationRequest
