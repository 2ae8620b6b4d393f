"""Owns what clients may ask of a GAN: images of a class, and the frames between two. Never sees a tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from services.families.gan.classes import ClassPrompts
from services.families.gan.params import ImageParams, Point
from services.nn.images import ImageChunk, Writing, check_volume, encode_chunk, refuse_options
from services.nn.rng import image_seed
from shared.errors import InvalidRequest
from shared.events import ImageDelta
from shared.schemas.images import ImageGenerationRequest, ImageSampling, InterpolationEnd, InterpolationRequest

_OPTIONS = ("truncation",)


@dataclass(frozen=True, slots=True)
class Drawable:
    """What both tasks know of the model. `side`: height and width of its images, in pixels."""

    model: str
    side: int
    prompts: ClassPrompts

    def check(self, request: ImageSampling, count: int, param: str) -> None:
        """Raises InvalidRequest: an option that the model does not have, a size that it does not draw, too many images.

        `param` is the field that says how many.
        """
        refuse_options(request.sampling_options, _OPTIONS, self.model)
        if request.dimensions not in (None, (self.side, self.side)):
            raise InvalidRequest(
                f"Model '{self.model}' draws images of {self.side}x{self.side} alone; got {request.size}.", param="size"
            )
        check_volume(count, self.side, self.side, param)

    def truncation(self, request: ImageSampling) -> float:
        return 1.0 if request.truncation is None else request.truncation


@dataclass(frozen=True, slots=True)
class _DrawingTask:
    """What both tasks share: what can be drawn, and how images become events."""

    encodes_slowly: ClassVar[bool] = True

    drawable: Drawable

    def encode(self, chunk: ImageChunk) -> ImageDelta:
        return encode_chunk(chunk)


@dataclass(frozen=True, slots=True)
class ImageTask(_DrawingTask):
    """`n` images of the class that the prompt names. There are no previews: an image takes a single step."""

    def prepare(self, request: ImageGenerationRequest, salt: str = "") -> list[ImageParams]:
        self.drawable.check(request, request.n, "n")
        prompts = self.drawable.prompts
        named = prompts.named(request.prompt, "prompt")
        rows: list[ImageParams] = []
        for i in range(request.n):
            seed = image_seed(request.seed, i)
            point = Point(seed, named.label_for(seed, len(prompts)))
            rows.append(
                ImageParams(
                    task="image",
                    start=point,
                    end=point,
                    position=0.0,
                    truncation=self.drawable.truncation(request),
                    seed=seed,
                    writing=Writing.of(request),
                    prompt_tokens=named.words,
                )
            )
        return rows


@dataclass(frozen=True, slots=True)
class InterpolationTask(_DrawingTask):
    """Frames from one image to another; frame i is row i, and the first and last are the ends themselves."""

    def prepare(self, request: InterpolationRequest, salt: str = "") -> list[ImageParams]:
        self.drawable.check(request, request.frames, "frames")
        start, start_words = self._point(request.start, "start.prompt")
        end, end_words = self._point(request.end, "end.prompt")
        seed = image_seed(request.seed, 0)  # nothing else is drawn at random: all frames tell the request's own
        return [
            ImageParams(
                task="interpolation",
                start=start,
                end=end,
                position=i / (request.frames - 1),
                truncation=self.drawable.truncation(request),
                seed=seed,
                writing=Writing.of(request),
                prompt_tokens=start_words + end_words,
            )
            for i in range(request.frames)
        ]

    def _point(self, end: InterpolationEnd, param: str) -> tuple[Point, int]:
        prompts = self.drawable.prompts
        named = prompts.named(end.prompt, param)
        return Point(end.seed, named.label_for(end.seed, len(prompts))), named.words
