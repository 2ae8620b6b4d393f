"""Owns what clients may ask an autoencoder of images to draw. Never sees a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from services.families.vae.image_params import DrawParams, Given, Near, Point, Seeded
from services.nn.canvas import Canvas
from services.nn.images import ImageChunk, encode_chunk
from shared.errors import InvalidRequest
from shared.events import ImageDelta
from shared.schemas.images import (
    ImageGenerationRequest,
    ImageSampling,
    ImageVariationRequest,
    InterpolationEnd,
    InterpolationRequest,
)

OPTIONS = ("truncation", "strength")
STRENGTH = 0.5


@dataclass(frozen=True, slots=True)
class _DrawingTask:
    """What all tasks share: what can be drawn, and how images become events."""

    encodes_slowly: ClassVar[bool] = True

    canvas: Canvas

    def encode(self, chunk: ImageChunk) -> ImageDelta:
        return encode_chunk(chunk)


@dataclass(frozen=True, slots=True)
class ImageTask(_DrawingTask):
    """`n` images of the class that the prompt names. There are no previews: an image takes a single step."""

    def prepare(self, request: ImageGenerationRequest, salt: str = "") -> list[DrawParams]:
        return [
            DrawParams("image", (Seeded(each.seed, each.label),), 0.0, _truncation(request), each)
            for each in self.canvas.drawings(request, request.prompt)
        ]


@dataclass(frozen=True, slots=True)
class VariationTask(_DrawingTask):
    """`n` images whose latents are near that of the given one; a prompt draws them towards its class."""

    def prepare(self, request: ImageVariationRequest, salt: str = "") -> list[DrawParams]:
        drawings = self.canvas.drawings(request, request.prompt)
        named = self.canvas.prompts.named(request.prompt, "prompt")
        strength = STRENGTH if request.strength is None else request.strength
        image = self.canvas.given_image(request.image, "image")
        return [
            DrawParams("variation", (Near(image, strength, each.seed, named.label),), 0.0, _truncation(request), each)
            for each in drawings
        ]


@dataclass(frozen=True, slots=True)
class InterpolationTask(_DrawingTask):
    """Frames from one image to another, drawn or given; frame i is row i, and the first and last are the ends."""

    def prepare(self, request: InterpolationRequest, salt: str = "") -> list[DrawParams]:
        self.canvas.check(request, request.frames, "frames")
        start, start_words = self._end(request.start, "start")
        end, end_words = self._end(request.end, "end")
        if request.truncation is not None and isinstance(start, Given) and isinstance(end, Given):
            raise InvalidRequest(
                "truncation scales what seeds draw; both ends are images.",
                param="truncation",
                code="unsupported_parameter",
            )
        label = start.label if isinstance(start, Seeded) else 0
        drawing = self.canvas.frame(request, label, start_words + end_words)
        return [
            DrawParams("interpolation", (start, end), i / (request.frames - 1), _truncation(request), drawing)
            for i in range(request.frames)
        ]

    def _end(self, end: InterpolationEnd, param: str) -> tuple[Point, int]:
        """The point, and the words that named its class."""
        if end.image is None:
            seed, label, words = self.canvas.seeded_end(end, param)
            return Seeded(seed, label), words
        if end.prompt:
            raise InvalidRequest(
                f"'{param}' gives an image, which needs no prompt.",
                param=f"{param}.prompt",
                code="unsupported_parameter",
            )
        return Given(self.canvas.given_image(end.image, f"{param}.image")), 0


def _truncation(request: ImageSampling) -> float:
    return 1.0 if request.truncation is None else request.truncation
