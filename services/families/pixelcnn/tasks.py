"""Owns what clients may ask of a model of images: images of a class, masked parts anew, likelihoods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from torch import Tensor

from services.families.pixelcnn.likelihood import bits_of
from services.families.pixelcnn.params import FREE, Given, ImageParams, ScoreParams
from services.families.pixelcnn.pictures import to_values
from services.families.pixelcnn.scores import ScoreChunk
from services.nn.canvas import Canvas
from services.nn.images import ImageChunk, encode_chunk
from services.nn.items import item_event
from services.nn.percentiles import Known
from services.nn.scoring import chosen_metric, refuse_samples
from shared.errors import InvalidRequest
from shared.events import ImageDelta, Item
from shared.schemas.images import ImageEditRequest, ImageGenerationRequest, ImageSampling
from shared.schemas.scores import Metric, Score, ScoreRequest

OPTIONS = ("temperature",)
METRIC: Metric = "log_likelihood"
GIVEN_CLASS = "log_likelihood_given_class"  # what a score of a named class is compared with


@dataclass(frozen=True, slots=True)
class Greys:
    """The canvas, and how many grey levels the model's values are."""

    canvas: Canvas
    levels: int


@dataclass(frozen=True, slots=True)
class _DrawingTask:
    """What both drawing tasks share: what can be drawn, and how images become events."""

    encodes_slowly: ClassVar[bool] = True

    greys: Greys

    def encode(self, chunk: ImageChunk) -> ImageDelta:
        return encode_chunk(chunk)


@dataclass(frozen=True, slots=True)
class ImageTask(_DrawingTask):
    """`n` images of the class that the prompt names; a step draws a row of pixels."""

    def prepare(self, request: ImageGenerationRequest, salt: str = "") -> list[ImageParams]:
        canvas = self.greys.canvas
        drawings = canvas.drawings(request, request.prompt, steps=canvas.height)
        return [ImageParams("image", drawing, _temperature(request)) for drawing in drawings]


@dataclass(frozen=True, slots=True)
class EditTask(_DrawingTask):
    """Inpainting: what the mask keeps is clamped as it is, the rest is drawn given all pixels above and to the left.

    What is kept below or to the right of a drawn pixel does not bear on it: the model reads in one order alone.
    """

    def prepare(self, request: ImageEditRequest, salt: str = "") -> list[ImageParams]:
        canvas = self.greys.canvas
        drawings = canvas.drawings(request, request.prompt, steps=canvas.height)
        if request.mask is None:
            raise InvalidRequest(
                f"Model '{canvas.model}' draws what a mask lets change, and no mask is given.",
                param="mask",
                code="missing_required_parameter",
            )
        given = self._given(canvas.given_image(request.image, "image")[0], request.mask)
        return [ImageParams("edit", drawing, _temperature(request), given) for drawing in drawings]

    def _given(self, image: Tensor, mask: str) -> Given:
        """image uint8 (H, W)."""
        free = self.greys.canvas.open_pixels(mask)
        values = to_values(image, self.greys.levels).numpy()
        return Given(np.where(free, FREE, values), image.numpy()[..., None])


@dataclass(frozen=True, slots=True)
class ScoreTask:
    """The exact likelihood of each given image, its pixels at the model's grey levels, of a class or over all."""

    encodes_slowly: ClassVar[bool] = False

    greys: Greys
    known: Mapping[str, Known] = field(default_factory=dict[str, Known])

    def prepare(self, request: ScoreRequest, salt: str = "") -> list[ScoreParams]:
        canvas = self.greys.canvas
        refuse_samples(request, chosen_metric(request, [METRIC], canvas.model), canvas.model)
        named = canvas.prompts.named(request.prompt, "prompt")
        classes, levels = len(canvas.prompts), self.greys.levels
        images = canvas.given_images(request)
        return [ScoreParams(to_values(image[0], levels), named.label, classes) for image in images]

    def encode(self, chunk: ScoreChunk) -> Item:
        """The percentile is among scores of the same kind: each of its own class, or over all classes."""
        canvas = self.greys.canvas
        known = self.known.get(GIVEN_CLASS if chunk.given_class else METRIC)
        score = Score(
            index=0,
            metric=METRIC,
            kind="exact",
            value=chunk.nats,
            bits_per_dimension=bits_of(chunk.nats, canvas.width * canvas.height),
            percentile=None if known is None else known.percentile(chunk.nats),
        )
        return item_event(score)


def _temperature(request: ImageSampling) -> float:
    return 1.0 if request.temperature is None else request.temperature
