"""Owns one gated layer: over whole rows, and a cell at a time with the same weights. Never sees a grid of values."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class GatedLayer(nn.Module):
    """One layer of both stacks (van den Oord 2016, arXiv:1606.05328, figure 2), with residuals in either.

    The vertical kernel is 2x3, of a row and the one `dilation` above it; the horizontal one 1x2, of a cell and the one
    `dilation` to its left. A class adds its own terms before each gate.
    """

    def __init__(self, features: int, labels: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.dilation = dilation
        self.above = nn.Conv2d(features, 2 * features, (2, 3), dilation=dilation)
        self.link = nn.Conv2d(2 * features, 2 * features, 1)
        self.left = nn.Conv2d(features, 2 * features, (1, 2), dilation=dilation)
        self.mix = nn.Conv2d(features, features, 1)
        self.class_terms = nn.Embedding(labels, 4 * features)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.class_terms.weight, std=0.1)

    def look_above(self, rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """rows (B, C, dilation + R, W): R rows and those before them -> their (B, C, R, W), and terms (B, 2C, R, W).

        The terms are what the horizontal stack gets of the vertical one and of the class.
        """
        vertical_class, horizontal_class = self.class_terms(labels)[:, :, None, None].chunk(2, dim=1)
        before = self.above(functional.pad(rows, (self.dilation, self.dilation))) + vertical_class
        after = rows[:, :, self.dilation :] + self.dropout(gate(before))
        return after, self.link(before) + horizontal_class

    def look_left(self, rows: Tensor, terms: Tensor) -> Tensor:
        """rows (B, C, H, W), terms (B, 2C, H, W) -> (B, C, H, W), whole rows at once."""
        before = self.left(functional.pad(rows, (self.dilation, 0))) + terms
        return rows + self.mix(self.dropout(gate(before)))

    @property
    def left_weight(self) -> Tensor:
        """The horizontal kernel as a matrix (2C, 2C), for `look_left_at`: first the left cell's part."""
        return self.left.weight[:, :, 0].transpose(1, 2).flatten(1)

    def look_left_at(self, cell: Tensor, back: Tensor, term: Tensor, left_weight: Tensor) -> Tensor:
        """The same of one column: cell (B, C), the one `dilation` to its left (B, C), term (B, 2C) -> (B, C)."""
        before = functional.linear(torch.cat([back, cell], dim=1), left_weight, self.left.bias) + term
        return cell + pointwise(self.mix, gate(before))


def gate(x: Tensor) -> Tensor:
    """tanh(a) * sigmoid(b) of (B, 2C, ...) = (a, b) -> (B, C, ...)."""
    a, b = x.chunk(2, dim=1)
    return torch.tanh(a) * torch.sigmoid(b)


def pointwise(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """A 1x1 convolution of images (B, C, H, W), or of single cells (B, C)."""
    if x.ndim == 4:
        return convolution(x)
    return functional.linear(x, convolution.weight.flatten(1), convolution.bias)
