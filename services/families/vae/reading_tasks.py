"""Owns what clients may ask an autoencoder of images about given ones. Never sees a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from services.families.vae.image_params import EmbedParams, ReconstructParams, ScoreParams
from services.families.vae.image_passes import EmbeddingChunk, ReconstructionChunk
from services.nn.canvas import Canvas
from services.nn.images import Writing
from services.nn.items import cut_dimensions, embedding_event, item_event, reconstructed
from services.nn.rng import image_seed
from services.nn.scoring import chosen_metric
from shared.config.vae import SAMPLES
from shared.errors import InvalidRequest
from shared.events import Item
from shared.schemas.embeddings import EmbeddingRequest
from shared.schemas.reconstructions import Reconstruction, ReconstructionRequest
from shared.schemas.scores import Score, ScoreRequest


@dataclass(frozen=True, slots=True)
class EmbeddingTask:
    """The latents of given images, those numbers first that tell most of an image."""

    encodes_slowly: ClassVar[bool] = False

    canvas: Canvas
    latent_size: int

    def prepare(self, request: EmbeddingRequest, salt: str = "") -> list[EmbedParams]:
        size = cut_dimensions(request.dimensions, self.latent_size)
        return [
            EmbedParams("embedding", image, size, request.encoding_format)
            for image in self.canvas.given_images(request)
        ]

    def encode(self, chunk: EmbeddingChunk) -> Item:
        return embedding_event(chunk.vector, chunk.encoding)


@dataclass(frozen=True, slots=True)
class ReconstructionTask:
    """Given images as they come back from their latents."""

    encodes_slowly: ClassVar[bool] = True

    canvas: Canvas

    def prepare(self, request: ReconstructionRequest, salt: str = "") -> list[ReconstructParams]:
        if request.steps is not None:
            raise InvalidRequest(
                f"Model '{self.canvas.model}' reconstructs in one pass, without steps.",
                param="steps",
                code="unsupported_parameter",
            )
        quality = 90 if request.output_compression is None else request.output_compression
        writing = Writing(request.output_format, quality)
        return [ReconstructParams("reconstruction", image, writing) for image in self.canvas.given_images(request)]

    def encode(self, chunk: ReconstructionChunk) -> Item:
        return item_event(Reconstruction(index=0, error=chunk.error, image=reconstructed(chunk.pixels, chunk.writing)))


@dataclass(frozen=True, slots=True)
class ScoreTask:
    """How likely given images are, by a bound: given a class, or over all."""

    encodes_slowly: ClassVar[bool] = False

    canvas: Canvas

    def prepare(self, request: ScoreRequest, salt: str = "") -> list[ScoreParams]:
        metric = chosen_metric(request, SAMPLES, self.canvas.model)
        label = self.canvas.prompts.named(request.prompt, "prompt").label
        samples = SAMPLES[metric] if request.samples is None else request.samples
        # An ELBO has the same expectation whatever the draws are; the other bound rises with them.
        compares = label is None and (metric == "elbo" or samples == SAMPLES[metric])
        return [
            ScoreParams("score", image, metric, label, samples, image_seed(request.seed, i), compares)
            for i, image in enumerate(self.canvas.given_images(request))
        ]

    def encode(self, chunk: Score) -> Item:
        return item_event(chunk)
