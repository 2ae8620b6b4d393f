"""Owns what clients may ask a Boltzmann machine about given images: reconstructions, embeddings, scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from services.families.boltzmann.model import binary
from services.families.boltzmann.params import (
    ChainParams,
    EmbeddingParams,
    Features,
    Origin,
    ReconstructionParams,
    Restoration,
    Restored,
    ScoreParams,
)
from services.families.boltzmann.scores import PIXELS, Measure
from services.nn.canvas import Canvas
from services.nn.images import Writing
from services.nn.items import cut_dimensions, embedding_event, item_event, reconstructed
from services.nn.rng import image_seed
from services.nn.scoring import chosen_metric, refuse_samples
from shared.config.boltzmann import score_cost
from shared.errors import InvalidRequest
from shared.events import Item
from shared.schemas.embeddings import EmbeddingRequest
from shared.schemas.items import GivenItems
from shared.schemas.reconstructions import Reconstruction, ReconstructionRequest
from shared.schemas.scores import Metric, Score, ScoreRequest


@dataclass(frozen=True, slots=True)
class ReconstructionTask:
    """Given images as the machine sees them: one pass up and down, or with `steps` a chain that starts from them.

    Images are read as black and white, and an error is the distance to that.
    """

    encodes_slowly: ClassVar[bool] = True

    canvas: Canvas

    def prepare(self, request: ReconstructionRequest, salt: str = "") -> list[ReconstructionParams | ChainParams]:
        quality = 90 if request.output_compression is None else request.output_compression
        writing = Writing(request.output_format, quality)
        images = _images(request, self.canvas)
        return [self._row(image, request, image_seed(request.seed, i), writing) for i, image in enumerate(images)]

    def _row(
        self, image: Tensor, request: ReconstructionRequest, seed: int, writing: Writing
    ) -> ReconstructionParams | ChainParams:
        given = image.view(self.canvas.height, self.canvas.width).numpy()
        if request.steps is None:
            return ReconstructionParams(image, Restoration(given, writing))
        return ChainParams(
            task="reconstruction",
            seed=seed,
            label=None,
            sweeps=request.steps,
            temperature=1.0,
            outcome=Restoration(given, writing, seed),
            origin=Origin(image),
        )

    def encode(self, chunk: Restored) -> Item:
        image = reconstructed(chunk.pixels, chunk.writing)
        return item_event(Reconstruction(index=0, error=chunk.error, image=image, seed=chunk.seed))


@dataclass(frozen=True, slots=True)
class EmbeddingTask:
    """How far given images turn on each hidden unit, in [0, 1]: the first layer's, then a deep machine's second."""

    encodes_slowly: ClassVar[bool] = False

    canvas: Canvas
    units: int

    def prepare(self, request: EmbeddingRequest, salt: str = "") -> list[EmbeddingParams]:
        size = cut_dimensions(request.dimensions, self.units)
        return [EmbeddingParams(image, size, request.encoding_format) for image in _images(request, self.canvas)]

    def encode(self, chunk: Features) -> Item:
        return embedding_event(chunk.values, chunk.encoding)


@dataclass(frozen=True, slots=True)
class ScoreTask:
    """How likely given images are, read as black and white: of the class that the prompt names, or over all classes."""

    encodes_slowly: ClassVar[bool] = False

    canvas: Canvas
    measures: Mapping[Metric, Measure]

    def prepare(self, request: ScoreRequest, salt: str = "") -> list[ScoreParams]:
        metric = chosen_metric(request, self.measures, self.canvas.model)
        draws = self.measures[metric].draws
        if not draws:
            refuse_samples(request, metric, self.canvas.model)
        label = self.canvas.prompts.named(request.prompt, "prompt").label
        samples = self._samples(request) if draws else 0
        return [
            ScoreParams(image, metric, label, samples, image_seed(request.seed, i), score_cost(samples))
            for i, image in enumerate(_images(request, self.canvas))
        ]

    def _samples(self, request: ScoreRequest) -> int:
        """Pixels that are asked about, each once."""
        pixels = self.canvas.width * self.canvas.height
        if request.samples is None:
            return min(PIXELS, pixels)
        if request.samples > pixels:
            raise InvalidRequest(
                f"samples may be at most {pixels}, all of the pixels; got {request.samples}.", param="samples"
            )
        return request.samples

    def encode(self, chunk: Score) -> Item:
        return item_event(chunk)


def _images(request: GivenItems, canvas: Canvas) -> list[Tensor]:
    """bool (D,) of each item."""
    return [binary(image) for image in canvas.given_images(request)]
