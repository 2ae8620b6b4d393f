"""Owns what a row needs to run: plain data between tasks and sampler."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from services.families.ebm.langevin import Chain
from services.nn.canvas import Drawing


@dataclass(frozen=True, slots=True, eq=False)
class ChainParams:
    """One image. `label`: a class's number, or ANY_CLASS; `temperature` scales the variance of the sweeps' noise.

    `source`: uint8 (C, H, W), the image that the chain starts from; without one it starts from the mean image.
    """

    task: str
    label: int
    chain: Chain
    temperature: float
    drawing: Drawing
    source: Tensor | None = None

    @property
    def cost(self) -> float:
        """A sweep is the unit."""
        return float(len(self.chain.sweeps))


@dataclass(frozen=True, slots=True, eq=False)
class ScoreParams:
    """One image uint8 (C, H, W) to give the energy of, for a class's number or for ANY_CLASS."""

    image: Tensor
    label: int
    task: str = "score"

    @property
    def cost(self) -> float:
        """A pass without a gradient counts as a sweep."""
        return 1.0


Params = ChainParams | ScoreParams
