"""Owns the flow of a vector, made of zuko's spline couplings. Never sees an image."""

from __future__ import annotations

from typing import Annotated, cast

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from zuko.flows.autoregressive import MaskedAutoregressiveTransform
from zuko.lazy import LazyComposedTransform
from zuko.transforms import MonotonicRQSTransform

_PASSES = 2  # to invert a transform, as of a coupling


class SplineConfig(BaseModel):
    """Sizes of a `VectorFlow`: how many couplings, the hidden layers of each, and the pieces of its splines."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    couplings: int = Field(ge=1)
    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
    bins: int = Field(ge=2)


class VectorFlow(nn.Module):
    """Neural spline flow (Durkan 2019, arXiv:1906.04032): monotonic rational-quadratic splines within [-5, 5].

    A coupling moves every other feature by splines of the context alone, and the rest by splines of those and the
    context; the next one the other way round.
    """

    def __init__(self, features: int, context: int, config: SplineConfig) -> None:
        super().__init__()
        with torch.device("cpu"):  # zuko asks its masks for values, which the meta device has none of
            self.transform = LazyComposedTransform(
                *(
                    MaskedAutoregressiveTransform(
                        features,
                        context,
                        passes=_PASSES,
                        order=_order(features, reverse=bool(i % 2)),
                        univariate=MonotonicRQSTransform,
                        shapes=knots(config.bins),
                        hidden_features=config.hidden,
                    )
                    for i in range(config.couplings)
                )
            )

    def forward(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, D), context (B, C) -> z (B, D), log |det dz/dx| (B,)."""
        return self.transform(context).call_and_ladj(x)

    def inverse(self, z: Tensor, context: Tensor) -> Tensor:
        return self.transform(context).inv(z)


def knots(bins: int) -> list[torch.Size]:
    """Shapes of what a spline of so many pieces is made of: widths, heights, and slopes between pieces."""
    return [torch.Size([bins]), torch.Size([bins]), torch.Size([bins - 1])]


def _order(features: int, *, reverse: bool) -> torch.LongTensor:
    """int64 (D,): the place of each feature, even ones first; zuko cuts the places into passes."""
    spread = torch.cat([torch.arange(0, features, 2), torch.arange(1, features, 2)])
    places = torch.empty_like(spread)
    places[spread] = torch.arange(features)
    return cast(torch.LongTensor, features - 1 - places if reverse else places)
