"""Owns what clients may ask of a flow of images: images of a class, the frames between two, and likelihoods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from services.families.neural_ode.images.params import ImageParams, Point, ScoreParams
from services.families.neural_ode.images.pixels import bits_per_dimension
from services.families.neural_ode.images.sampler import ScoreChunk
from services.nn.canvas import Canvas, Drawing
from services.nn.images import ImageChunk, encode_chunk
from services.nn.items import item_event
from services.nn.percentiles import Known
from services.nn.rng import image_seed
from services.nn.scoring import chosen_metric
from shared.errors import InvalidRequest
from shared.events import ImageDelta, Item
from shared.schemas.images import ImageGenerationRequest, ImageSampling, InterpolationRequest
from shared.schemas.scores import Metric, Score, ScoreRequest

OPTIONS = ("steps", "temperature")
METRIC: Metric = "log_likelihood"


@dataclass(frozen=True, slots=True)
class Solving:
    """How rows are solved: `evaluations` of the field a step, and how many steps where a request says nothing."""

    evaluations: int
    steps: int
    score_steps: int
    samples: int
    max_samples: int


@dataclass(frozen=True, slots=True)
class _DrawingTask:
    """What both drawing tasks share."""

    encodes_slowly: ClassVar[bool] = True

    canvas: Canvas
    solving: Solving

    def encode(self, chunk: ImageChunk) -> ImageDelta:
        return encode_chunk(chunk)

    def _steps(self, request: ImageSampling) -> int:
        return request.steps or self.solving.steps

    def _row(
        self, task: str, request: ImageSampling, start: Point, end: Point, position: float, drawing: Drawing
    ) -> ImageParams:
        temperature = 1.0 if request.temperature is None else request.temperature
        return ImageParams(task, start, end, position, temperature, self.solving.evaluations, drawing)


@dataclass(frozen=True, slots=True)
class ImageTask(_DrawingTask):
    """`n` images of the class that the prompt names; a preview is where the flow would end if it went straight on."""

    def prepare(self, request: ImageGenerationRequest, salt: str = "") -> list[ImageParams]:
        rows: list[ImageParams] = []
        for drawing in self.canvas.drawings(request, request.prompt, steps=self._steps(request)):
            point = Point(drawing.seed, drawing.label)
            rows.append(self._row("image", request, point, point, 0.0, drawing))
        return rows


@dataclass(frozen=True, slots=True)
class InterpolationTask(_DrawingTask):
    """Frames between two seeds and classes: spherical in the noise, linear in the classes' embeddings."""

    def prepare(self, request: InterpolationRequest, salt: str = "") -> list[ImageParams]:
        self.canvas.check(request, request.frames, "frames")
        start_seed, start_label, start_words = self.canvas.seeded_end(request.start, "start")
        end_seed, end_label, end_words = self.canvas.seeded_end(request.end, "end")
        drawing = self.canvas.frame(request, start_label, start_words + end_words, steps=self._steps(request))
        start, end = Point(start_seed, start_label), Point(end_seed, end_label)
        return [
            self._row("interpolation", request, start, end, i / (request.frames - 1), drawing)
            for i in range(request.frames)
        ]


@dataclass(frozen=True, slots=True)
class ScoreTask:
    """Each image's log-likelihood in nats, by an unbiased estimate of a lower bound that dequantisation makes.

    Percentiles are of the likelihood over all classes, and so are left out where a class is given.
    """

    encodes_slowly: ClassVar[bool] = False

    canvas: Canvas
    solving: Solving
    known: Mapping[str, Known]

    def prepare(self, request: ScoreRequest, salt: str = "") -> list[ScoreParams]:
        chosen_metric(request, [METRIC], self.canvas.model)
        samples = self._samples(request)
        named = self.canvas.prompts.named(request.prompt, "prompt")
        return [
            ScoreParams(
                image,
                named.label,
                samples,
                image_seed(request.seed, i),
                self.solving.score_steps,
                self.solving.evaluations,
            )
            for i, image in enumerate(self.canvas.given_images(request))
        ]

    def encode(self, chunk: ScoreChunk) -> Item:
        known = None if chunk.given_class else self.known.get(METRIC)
        return item_event(
            Score(
                index=0,
                metric=METRIC,
                kind="estimate",
                value=chunk.value,
                standard_error=chunk.standard_error,
                bits_per_dimension=bits_per_dimension(chunk.value, chunk.dimensions),
                percentile=None if known is None else known.percentile(chunk.value),
                seed=chunk.seed,
            )
        )

    def _samples(self, request: ScoreRequest) -> int:
        samples = self.solving.samples if request.samples is None else request.samples
        if samples > self.solving.max_samples:
            raise InvalidRequest(
                f"samples may be at most {self.solving.max_samples} for model '{self.canvas.model}'; got {samples}.",
                param="samples",
            )
        return samples
