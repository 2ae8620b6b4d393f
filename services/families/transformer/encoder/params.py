"""Owns what an encoder's rows need, and what their one pass gives: plain data between tasks and passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from services.nn.text.params import RawLogprob, SamplingOptions


@dataclass(frozen=True, slots=True)
class EmbedParams:
    """A text to embed. `dimensions`: how many numbers of its vector are wanted."""

    ids: tuple[int, ...]
    dimensions: int
    encoding: Literal["float", "base64"]
    task: str = "embedding"

    @property
    def cost(self) -> float:
        return float(len(self.ids))


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """A vector (D,) float32 on the CPU."""

    params: EmbedParams
    vector: Tensor


@dataclass(frozen=True, slots=True)
class FillParams:
    """A text with masks at `places` of its ids. `text` is it as it was given, with each mask's span of characters.

    `text` is None where ids were given.
    """

    ids: tuple[int, ...]
    places: tuple[int, ...]
    text: str | None
    spans: tuple[tuple[int, int], ...]
    seed: int
    sampling: SamplingOptions
    logprobs: int | None
    task: str = "completion"

    @property
    def cost(self) -> float:
        return float(len(self.ids))


@dataclass(frozen=True, slots=True)
class Filled:
    """A token for each mask, with log-probabilities if they were asked for."""

    params: FillParams
    tokens: tuple[int, ...]
    logprobs: tuple[RawLogprob, ...] | None
