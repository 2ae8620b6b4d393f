"""Owns what clients may ask of an energy-based model: images, variations of one, energies of given ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from services.families.ebm.langevin import annealed
from services.families.ebm.model import ANY_CLASS, EnergyConfig
from services.families.ebm.params import ChainParams, ScoreParams
from services.families.ebm.scoring import ScoreChunk
from services.nn.canvas import Canvas
from services.nn.images import ImageChunk, encode_chunk
from services.nn.items import item_event
from services.nn.percentiles import Known
from services.nn.scoring import chosen_metric, refuse_samples
from shared.events import ImageDelta, Item
from shared.schemas.images import ImageCall, ImageGenerationRequest, ImageSampling, ImageVariationRequest
from shared.schemas.scores import Metric, Score, ScoreRequest

OPTIONS = ("steps", "temperature", "strength")
VARIATION_STRENGTH = 0.4
METRIC: Metric = "energy"
CLASS_ENERGY = "class_energy"  # of scores.json: each image's energy given its own class


@dataclass(frozen=True, slots=True)
class _ChainTask:
    """What both tasks that draw share: what can be drawn, and how images become events."""

    encodes_slowly: ClassVar[bool] = True

    canvas: Canvas
    shape: EnergyConfig

    def encode(self, chunk: ImageChunk) -> ImageDelta:
        return encode_chunk(chunk)

    def sweeps(self, request: ImageSampling) -> int:
        return self.shape.sweeps if request.steps is None else request.steps

    def rows(self, task: str, request: ImageCall, prompt: str, *, taken: int | None = None) -> list[ChainParams]:
        """Chains of the last `taken` sweeps, or of all. Raises InvalidRequest as `Canvas.drawings` does."""
        shape = self.shape
        chain = annealed(self.sweeps(request), rate=shape.rate, high=shape.high, low=shape.low, taken=taken)
        return [
            ChainParams(
                task=task,
                label=drawing.label,
                chain=chain,
                temperature=1.0 if request.temperature is None else request.temperature,
                drawing=drawing,
            )
            for drawing in self.canvas.drawings(request, prompt, steps=len(chain.sweeps))
        ]


@dataclass(frozen=True, slots=True)
class ImageTask(_ChainTask):
    """`n` images of the class that the prompt names, each at the end of a chain that starts from noise."""

    def prepare(self, request: ImageGenerationRequest, salt: str = "") -> list[ChainParams]:
        return self.rows("image", request, request.prompt)


@dataclass(frozen=True, slots=True)
class VariationTask(_ChainTask):
    """Images near the given one: it is noised to where the last `strength` of the sweeps begin, which are then taken.

    With an empty prompt the chain goes by the energy over all classes, so that the image itself says which. At least
    one sweep is taken, however small the strength; with 1 nothing is left of the image.
    """

    def prepare(self, request: ImageVariationRequest, salt: str = "") -> list[ChainParams]:
        strength = VARIATION_STRENGTH if request.strength is None else request.strength
        sweeps = self.sweeps(request)
        rows = self.rows("variation", request, request.prompt, taken=max(1, int(sweeps * strength)))
        source = self.canvas.given_image(request.image, "image")
        label = _label(self.canvas, request.prompt)
        return [replace(row, label=label, source=source if strength < 1 else None) for row in rows]


@dataclass(frozen=True, slots=True)
class ScoreTask:
    """The energy of each given image: of the class that the prompt names, or over all classes."""

    encodes_slowly: ClassVar[bool] = False

    canvas: Canvas
    known: Mapping[str, Known]

    def prepare(self, request: ScoreRequest, salt: str = "") -> list[ScoreParams]:
        refuse_samples(request, chosen_metric(request, [METRIC], self.canvas.model), self.canvas.model)
        label = _label(self.canvas, request.prompt)
        return [ScoreParams(image, label) for image in self.canvas.given_images(request)]

    def encode(self, chunk: ScoreChunk) -> Item:
        known = self.known.get(METRIC if chunk.label == ANY_CLASS else CLASS_ENERGY)
        # A low energy is a likely image: negated, the higher is the likelier.
        percentile = None if known is None else known.percentile(-chunk.energy)
        return item_event(Score(index=0, metric=METRIC, kind="unnormalised", value=chunk.energy, percentile=percentile))


def _label(canvas: Canvas, prompt: str) -> int:
    """The class that a prompt names, or ANY_CLASS of an empty one."""
    named = canvas.prompts.named(prompt, "prompt").label
    return ANY_CLASS if named is None else named
