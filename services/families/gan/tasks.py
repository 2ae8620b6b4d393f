"""Owns what clients may ask of a GAN: images of a class, and the frames between two. Never sees a tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from services.families.gan.params import ImageParams, Point
from services.nn.canvas import Canvas
from services.nn.images import ImageChunk, encode_chunk
from shared.events import ImageDelta
from shared.schemas.images import ImageGenerationRequest, ImageSampling, InterpolationRequest

OPTIONS = ("truncation",)


@dataclass(frozen=True, slots=True)
class _DrawingTask:
    """What both tasks share: what can be drawn, and how images become events."""

    encodes_slowly: ClassVar[bool] = True

    canvas: Canvas

    def encode(self, chunk: ImageChunk) -> ImageDelta:
        return encode_chunk(chunk)


@dataclass(frozen=True, slots=True)
class ImageTask(_DrawingTask):
    """`n` images of the class that the prompt names. There are no previews: an image takes a single step."""

    def prepare(self, request: ImageGenerationRequest, salt: str = "") -> list[ImageParams]:
        rows: list[ImageParams] = []
        for drawing in self.canvas.drawings(request, request.prompt):
            point = Point(drawing.seed, drawing.label)
            rows.append(ImageParams("image", point, point, 0.0, _truncation(request), drawing))
        return rows


@dataclass(frozen=True, slots=True)
class InterpolationTask(_DrawingTask):
    """Frames from one image to another; frame i is row i, and the first and last are the ends themselves."""

    def prepare(self, request: InterpolationRequest, salt: str = "") -> list[ImageParams]:
        self.canvas.check(request, request.frames, "frames")
        start_seed, start_label, start_words = self.canvas.seeded_end(request.start, "start")
        end_seed, end_label, end_words = self.canvas.seeded_end(request.end, "end")
        drawing = self.canvas.frame(request, start_label, start_words + end_words)
        start, end = Point(start_seed, start_label), Point(end_seed, end_label)
        return [
            ImageParams("interpolation", start, end, i / (request.frames - 1), _truncation(request), drawing)
            for i in range(request.frames)
        ]


def _truncation(request: ImageSampling) -> float:
    return 1.0 if request.truncation is None else request.truncation
