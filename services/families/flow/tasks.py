"""Owns what clients may ask of an image flow: images, frames, scores, embeddings. Checks, and knows no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import ClassVar

from services.families.flow.params import (
    DrawParams,
    EmbeddingChunk,
    EmbeddingParams,
    End,
    GivenEnd,
    ScoreChunk,
    ScoreParams,
    SeededEnd,
)
from services.nn.canvas import Canvas
from services.nn.images import ImageChunk, encode_chunk
from services.nn.items import cut_dimensions, embedding_event, item_event
from services.nn.percentiles import Known
from services.nn.scoring import chosen_metric, refuse_samples
from shared.events import ImageDelta, Item
from shared.schemas.embeddings import EmbeddingRequest
from shared.schemas.images import ImageGenerationRequest, ImageSampling, InterpolationEnd, InterpolationRequest
from shared.schemas.scores import Metric, Score, ScoreRequest

OPTIONS = ("temperature",)
METRIC: Metric = "log_likelihood"
GIVEN_CLASS = "log_likelihood_given_class"  # its name in scores.json: of images, each given its own class


@dataclass(frozen=True, slots=True)
class ImageTask:
    """`n` images of the class that the prompt names. There are no previews: an image takes a single step."""

    encodes_slowly: ClassVar[bool] = True

    canvas: Canvas

    def prepare(self, request: ImageGenerationRequest, salt: str = "") -> list[DrawParams]:
        rows: list[DrawParams] = []
        for drawing in self.canvas.drawings(request, request.prompt):
            end = SeededEnd(drawing.seed, drawing.label)
            rows.append(DrawParams("image", end, end, 0.0, _temperature(request), drawing))
        return rows

    def encode(self, chunk: ImageChunk) -> ImageDelta:
        return encode_chunk(chunk)


@dataclass(frozen=True, slots=True)
class InterpolationTask:
    """Frames from one image to another, along the great circle between their latents.

    An end is what a seed draws or a given image, whose latent decodes to itself: a first or last frame that is given
    is the given image.
    """

    encodes_slowly: ClassVar[bool] = True

    canvas: Canvas

    def prepare(self, request: InterpolationRequest, salt: str = "") -> list[DrawParams]:
        self.canvas.check(request, request.frames, "frames")
        start, start_words = self._end(request.start, "start")
        end, end_words = self._end(request.end, "end")
        drawing = self.canvas.frame(request, 0, start_words + end_words)
        return [
            DrawParams("interpolation", start, end, i / (request.frames - 1), _temperature(request), drawing)
            for i in range(request.frames)
        ]

    def encode(self, chunk: ImageChunk) -> ImageDelta:
        return encode_chunk(chunk)

    def _end(self, end: InterpolationEnd, param: str) -> tuple[End, int]:
        """An end, and how many words were read for it."""
        if end.image is None:
            seed, label, words = self.canvas.seeded_end(end, param)
            return SeededEnd(seed, label), words
        labels, words = _labels(self.canvas, end.prompt, f"{param}.prompt")
        return GivenEnd(self.canvas.given_image(end.image, f"{param}.image"), labels), words


@dataclass(frozen=True, slots=True)
class ScoreTask:
    """Exact log-likelihoods of given images: over all classes, or given the class that the prompt names."""

    encodes_slowly: ClassVar[bool] = False

    canvas: Canvas
    known: Mapping[str, Known]

    def prepare(self, request: ScoreRequest, salt: str = "") -> list[ScoreParams]:
        refuse_samples(request, chosen_metric(request, [METRIC], self.canvas.model), self.canvas.model)
        labels, _ = _labels(self.canvas, request.prompt, "prompt")
        return [ScoreParams(pixels, labels) for pixels in self.canvas.given_images(request)]

    def encode(self, chunk: ScoreChunk) -> Item:
        known = self.known.get(GIVEN_CLASS if chunk.given_class else METRIC)
        score = Score(
            index=0,
            metric=METRIC,
            kind="exact",
            value=chunk.nats,
            bits_per_dimension=-chunk.nats / (chunk.dimensions * log(2)),
            percentile=None if known is None else known.percentile(chunk.nats),
        )
        return item_event(score)


@dataclass(frozen=True, slots=True)
class EmbeddingTask:
    """The latent of given images, each under the class that it is likeliest of; the coarsest scale comes first."""

    encodes_slowly: ClassVar[bool] = False

    canvas: Canvas

    def prepare(self, request: EmbeddingRequest, salt: str = "") -> list[EmbeddingParams]:
        size = cut_dimensions(request.dimensions, self.canvas.width * self.canvas.height)
        labels = tuple(range(len(self.canvas.prompts)))
        return [
            EmbeddingParams(GivenEnd(pixels, labels), size, request.encoding_format)
            for pixels in self.canvas.given_images(request)
        ]

    def encode(self, chunk: EmbeddingChunk) -> Item:
        return embedding_event(chunk.vector, chunk.encoding)


def _labels(canvas: Canvas, prompt: str, param: str) -> tuple[tuple[int, ...], int]:
    """The class that a prompt names, or all for an empty one; and the count of its words."""
    named = canvas.prompts.named(prompt, param)
    return tuple(range(len(canvas.prompts))) if named.label is None else (named.label,), named.words


def _temperature(request: ImageSampling) -> float:
    return 1.0 if request.temperature is None else request.temperature
