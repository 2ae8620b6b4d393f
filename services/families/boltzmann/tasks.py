"""Owns what clients may ask a Boltzmann machine to draw: images of a class, and what a mask leaves open of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from services.families.boltzmann.model import binary
from services.families.boltzmann.params import ChainParams, Origin
from services.nn.canvas import Canvas
from services.nn.images import ImageChunk, encode_chunk
from shared.events import ImageDelta
from shared.schemas.images import ImageCall, ImageEditRequest, ImageGenerationRequest

OPTIONS = ("steps", "temperature")


@dataclass(frozen=True, slots=True)
class _ChainTask:
    """What both tasks that draw share. `sweeps` are made unless a request says how many."""

    encodes_slowly: ClassVar[bool] = True

    canvas: Canvas
    sweeps: int

    def encode(self, chunk: ImageChunk) -> ImageDelta:
        return encode_chunk(chunk)

    def rows(self, task: str, request: ImageCall, prompt: str, origin: Origin | None = None) -> list[ChainParams]:
        """A chain for each of the images; one that starts from a whole image finds its class unless one is named."""
        sweeps = self.sweeps if request.steps is None else request.steps
        drawings = self.canvas.drawings(request, prompt, steps=sweeps)
        finds_class = origin is not None and origin.known is None
        named = self.canvas.prompts.named(prompt, "prompt").label
        return [
            ChainParams(
                task=task,
                seed=drawing.seed,
                label=named if finds_class else drawing.label,
                sweeps=sweeps,
                temperature=1.0 if request.temperature is None else request.temperature,
                outcome=drawing,
                origin=origin,
                previews=drawing.previews,
            )
            for drawing in drawings
        ]


@dataclass(frozen=True, slots=True)
class ImageTask(_ChainTask):
    """`n` images of the class that the prompt names, each at the end of a chain; previews are the chain on its way."""

    def prepare(self, request: ImageGenerationRequest, salt: str = "") -> list[ChainParams]:
        return self.rows("image", request, request.prompt)


@dataclass(frozen=True, slots=True)
class EditTask(_ChainTask):
    """With a mask, what it leaves open is drawn beside the known pixels, which are clamped: black or white as read.

    Without one the chain starts from the image, and leaves it sweep by sweep.
    """

    def prepare(self, request: ImageEditRequest, salt: str = "") -> list[ChainParams]:
        self.rows("edit", request, request.prompt)  # all that can be checked before an image is decoded
        pixels = self.canvas.given_image(request.image, "image")
        known = None if request.mask is None else self._known(request.mask)
        return self.rows("edit", request, request.prompt, Origin(binary(pixels), known))

    def _known(self, mask: str) -> Tensor:
        """bool (D,): where the mask lets nothing change."""
        return torch.from_numpy(~self.canvas.open_pixels(mask)).flatten()
