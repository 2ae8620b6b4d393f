"""Owns what a row needs to run: plain data between tasks and passes. Tensors are clients' images, on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from services.nn.canvas import Drawing


@dataclass(frozen=True, slots=True)
class SeededEnd:
    """A latent that a seed draws, of a class by its number."""

    seed: int
    label: int

    @property
    def passes(self) -> int:
        return 0


@dataclass(frozen=True, slots=True, eq=False)
class GivenEnd:
    """The latent of a given image uint8 (1, S, S), of the class in `labels` under which it is likeliest."""

    pixels: Tensor
    labels: tuple[int, ...]

    @property
    def passes(self) -> int:
        return len(self.labels)


End = SeededEnd | GivenEnd


@dataclass(frozen=True, slots=True)
class DrawParams:
    """One image: `position` of the way from `start` (0) to `end` (1); `temperature` scales what a seed draws."""

    task: str
    start: End
    end: End
    position: float
    temperature: float
    drawing: Drawing

    @property
    def cost(self) -> float:
        """Passes of the flow: one draws, and one for each class that an end may be of."""
        ends = (self.start,) if self.start is self.end else (self.start, self.end)
        return float(1 + sum(end.passes for end in ends))


@dataclass(frozen=True, slots=True, eq=False)
class ScoreParams:
    """The likelihood of an image uint8 (1, S, S): over the classes in `labels`, which are all or one."""

    pixels: Tensor
    labels: tuple[int, ...]
    task: str = "score"

    @property
    def cost(self) -> float:
        return float(len(self.labels))


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingParams:
    """The first `dimensions` of the latent of a given image."""

    image: GivenEnd
    dimensions: int
    encoding: Literal["float", "base64"]
    task: str = "embedding"

    @property
    def cost(self) -> float:
        return float(self.image.passes)


FlowParams = DrawParams | ScoreParams | EmbeddingParams


@dataclass(frozen=True, slots=True)
class ScoreChunk:
    """A log-likelihood in nats, of an image of so many dimensions; given a class, or over all."""

    nats: float
    dimensions: int
    given_class: bool


@dataclass(frozen=True, slots=True)
class EmbeddingChunk:
    vector: tuple[float, ...]
    encoding: Literal["float", "base64"]
