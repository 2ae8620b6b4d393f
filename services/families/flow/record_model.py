"""Owns the flow of records: from a record's cells to a normal latent, and back. Never sees a request."""

from __future__ import annotations

from typing import Annotated, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Transform
from zuko.flows.autoregressive import MaskedAutoregressiveTransform
from zuko.transforms import AutoregressiveTransform, DependentTransform, MonotonicRQSTransform

from services.families.flow.record_grid import Grid
from services.families.flow.vectors import knots
from services.nn.records import Table
from services.nn.weights import ModelShape

MODEL_TYPE = "castalia-record-flow"
_LEAST = 1e-7  # relative mass of a cell that float32 can still tell from none


class RecordFlowConfig(ModelShape):
    """Content of config.json. `hidden` layers give each column's spline, of `bins` pieces, its knots."""

    model_type: Literal["castalia-record-flow"] = MODEL_TYPE
    table: Table
    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
    bins: int = Field(ge=2)


class RecordFlow(nn.Module):
    """An autoregressive neural spline flow (Durkan 2019, arXiv:1906.04032) over the F columns of a table.

    Column f of a record is a cell [a, b) of the line. A monotonic spline g, whose knots a masked network makes of the
    middles of the columns before f, takes the line to a standard normal one, so that the cell's probability given
    those columns is exactly N(g(b)) - N(g(a)), N being the normal distribution function: nothing is dequantised, and
    the probabilities of all records sum to 1.
    """

    def __init__(self, config: RecordFlowConfig) -> None:
        super().__init__()
        self.config = config
        with torch.device("cpu"):  # zuko asks its masks for values, which the meta device has none of
            self.grid = Grid.of(config.table)
            self.transform = MaskedAutoregressiveTransform(
                len(self.grid.sizes),
                univariate=MonotonicRQSTransform,
                shapes=knots(config.bins),
                hidden_features=config.hidden,
            )

    def forward(self, middles: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Cells by middles and edges (B, F) -> log-probabilities in nats (B, F), each given the columns before it."""
        splines = self._splines(middles)
        return log_mass(cast(Tensor, splines(low)), cast(Tensor, splines(high)))

    def latent(self, middles: Tensor) -> Tensor:
        """(B, F): where the middles of a record's cells lie in the latent."""
        return cast(Tensor, self._splines(middles)(middles))

    def inverse(self, z: Tensor) -> Tensor:
        """z (B, F) -> cells int64 (B, F) on the CPU. A pass finds a column, given the cells of those before it."""
        cells = torch.zeros(z.shape, dtype=torch.int64)
        middles = torch.zeros_like(z)
        for column in range(z.shape[1]):
            x = cast(Tensor, self._splines(middles).inv(z))[:, column]
            cells[:, column] = self.grid.cells(column, x.cpu())
            middles[:, column] = self.grid.centres(cells)[:, column].to(z)
        return cells

    def _splines(self, middles: Tensor) -> Transform:
        """Of each column (B, F), given the columns before it."""
        dependent = cast(AutoregressiveTransform, self.transform()).meta(middles)
        assert isinstance(dependent, DependentTransform)
        return dependent.base


def log_mass(low: Tensor, high: Tensor) -> Tensor:
    """log (N(high) - N(low)), of a standard normal's distribution function, also far from its middle."""
    upper = low + high > 0  # the same mass on the lower side, where differences lose nothing
    low, high = torch.where(upper, -high, low), torch.where(upper, -low, high)
    top = torch.special.log_ndtr(high)
    below = (torch.special.log_ndtr(low) - top).clamp(max=-_LEAST)
    return top + (-torch.expm1(below)).log()
