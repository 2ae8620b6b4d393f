"""Owns the network over a whole grid of values: pixels of few grey levels, or tiles. Never sees a request."""

from __future__ import annotations

from typing import Annotated, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from services.families.pixelcnn.layers import GatedLayer, pointwise
from services.nn.classes import ImageClass
from services.nn.weights import ModelShape

MODEL_TYPE = "castalia-pixelcnn"
ROWS_ABOVE, COLUMNS_BESIDE = 3, 2  # what the first convolution sees: rows above, and columns to either side
COLUMNS_LEFT = 3  # pixels of its own row that it sees


class PixelCnnConfig(ModelShape):
    """Content of config.json. A grid of `height` x `width` cells, each of `values` values."""

    model_type: Literal["castalia-pixelcnn"] = MODEL_TYPE
    kind: Literal["image", "level"]
    classes: tuple[ImageClass, ...] = ()
    values: int = Field(ge=2, le=256)
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    features: int = Field(ge=1)
    counted: int = Field(default=0, ge=0, description="up to where a row is told counts above it exactly; else shares")
    dilations: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]

    @property
    def labels(self) -> int:
        """How many conditions there are: a model without classes has the one, 0."""
        return max(1, len(self.classes))


class GatedPixelCnn(nn.Module):
    """p(x | c) = prod_i p(x_i | x_<i, c), cells in reading order (van den Oord 2016, arXiv:1606.05328, eq. 1 and 4).

    A vertical stack sees all rows above, a horizontal one the row's cells to the left, so that there is no blind spot.
    As Salimans 2017 (arXiv:1701.05517) has it, the vertical stack's input is moved down a row and the horizontal
    one's right by a cell, in place of masks. Dilated kernels reach far with few weights. Beside these, a row is told
    where in the grid it is, and how often each value occurs in all rows above: what the rules of a game go by.
    """

    def __init__(self, config: PixelCnnConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        features, values = config.features, config.values
        self.first_above = nn.Conv2d(values, features, (ROWS_ABOVE, 2 * COLUMNS_BESIDE + 1))
        self.first_left = nn.Conv2d(values, features, (1, COLUMNS_LEFT))
        self.counts = nn.Linear(values * (1 + config.counted), features, bias=False)
        self.row_places = nn.Parameter(torch.randn(features, config.height, 1) * 0.1)
        self.column_places = nn.Parameter(torch.randn(features, 1, config.width) * 0.1)
        self.layers = nn.ModuleList(
            GatedLayer(features, config.labels, dilation, dropout) for dilation in config.dilations
        )
        self.hidden = nn.Conv2d(features, features, 1)
        self.to_logits = nn.Conv2d(features, values, 1)

    @property
    def gated(self) -> list[GatedLayer]:
        return cast(list[GatedLayer], list(self.layers))

    def forward(self, values: Tensor, labels: Tensor) -> Tensor:
        """values int64 (B, H, W), labels int64 (B,) -> logits (B, K, H, W) in the weights' dtype."""
        seen = self.one_hot(values)  # (B, K, H, W)
        above = functional.pad(seen, (0, 0, ROWS_ABOVE, 0))[:, :, :-1]
        by_row = seen.sum(3)  # (B, K, H)
        counts = (by_row.cumsum(2) - by_row).mT  # (B, H, K), of the rows above each
        vertical = self.look_above(above, counts, self.row_places)
        horizontal = self.first_left(functional.pad(seen, (COLUMNS_LEFT, 0))[..., :-1])
        for layer in self.gated:
            padded = functional.pad(vertical, (0, 0, layer.dilation, 0))
            vertical, terms = layer.look_above(padded, labels)
            horizontal = layer.look_left(horizontal, terms)
        return self.head(horizontal)

    def one_hot(self, values: Tensor) -> Tensor:
        """int64 (B, H, W) -> (B, K, H, W); outside of the grid no value is set, which tells it from value 0."""
        weight = self.to_logits.weight
        hot = functional.one_hot(values, self.config.values)
        return hot.permute(0, 3, 1, 2).to(weight.dtype)

    def look_above(self, above: Tensor, counts: Tensor, row_places: Tensor) -> Tensor:
        """The vertical stack's input for R rows, of the rows above alone.

        above (B, K, ROWS_ABOVE - 1 + R, W), row r's being r to r + ROWS_ABOVE - 1; counts (B, R, K) of each value in
        all rows above; row_places (B or 1, C, R, 1) or (C, R, 1) -> (B, C, R, W).
        """
        padded = functional.pad(above, (COLUMNS_BESIDE, COLUMNS_BESIDE))
        steps = torch.arange(1, self.config.counted + 1, device=counts.device)
        reached = (counts[..., None] >= steps).flatten(2)  # (B, R, K * counted): of each value, is it there so often?
        counted = self.counts(torch.cat([counts / self.config.width, reached.to(counts.dtype)], dim=2)).mT  # (B, C, R)
        return self.first_above(padded) + counted[..., None] + row_places + self.column_places

    def head(self, horizontal: Tensor) -> Tensor:
        """(B, C, H, W) or (B, C) -> logits (B, K, H, W) or (B, K)."""
        hidden = pointwise(self.hidden, horizontal.relu()).relu()
        return pointwise(self.to_logits, hidden)
