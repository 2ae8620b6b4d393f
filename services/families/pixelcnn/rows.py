"""Owns how a row of a grid is drawn: the vertical stack once, from what is kept of the rows above; then cell by cell.

A row costs the same wherever in its grid it is: what the rows above give is cached, layer by layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from services.families.pixelcnn.model import COLUMNS_LEFT, ROWS_ABOVE, GatedPixelCnn


@dataclass(frozen=True, slots=True, eq=False)
class Above:
    """What the next row needs of the rows above it; all zeros before the first row.

    seen (K, ROWS_ABOVE, W): the last rows' values, one-hot. counts (K,): of each value in all rows.
    features (C, D, W): of each layer the last `dilation` rows of its vertical input, one layer after the other.
    """

    seen: Tensor
    counts: Tensor
    features: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class RowOrder:
    """One row to be drawn of each of B grids.

    place, label int64 (B,): which row it is, and of what class. temperature float64 (B,). uniform float64 (B, W) in
    [0, 1): what each cell's value is drawn from. given int64 (B, W): values that are known, -1 where one is drawn.
    """

    above: Sequence[Above]
    place: Tensor
    label: Tensor
    temperature: Tensor
    uniform: Tensor
    given: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class DrawnRow:
    """values int64 (W,) on the CPU; what the row after it needs; whether all that the network gave was finite."""

    values: Tensor
    above: Above
    finite: bool


def nothing_above(model: GatedPixelCnn) -> Above:
    """Before the first row."""
    config, weight = model.config, model.to_logits.weight
    return Above(
        weight.new_zeros(config.values, ROWS_ABOVE, config.width),
        weight.new_zeros(config.values),
        weight.new_zeros(config.features, sum(config.dilations), config.width),
    )


def draw_rows(model: GatedPixelCnn, order: RowOrder) -> list[DrawnRow]:
    """The next row of every grid, of equal or of different places. Changes no tensor in place."""
    seen, counts, features = (
        torch.stack([getattr(above, name) for above in order.above]) for name in ("seen", "counts", "features")
    )
    terms, features = _vertical(model, order, seen, counts, features)
    values, finite = _horizontal(model, order, terms)
    row = model.one_hot(values[:, None])  # (B, K, 1, W)
    seen = torch.cat([seen[:, :, 1:], row], dim=2)
    counts = counts + row.sum((2, 3))
    on_cpu, sound = values.cpu(), finite.tolist()
    return [DrawnRow(on_cpu[i], Above(seen[i], counts[i], features[i]), sound[i]) for i in range(len(order.above))]


def _vertical(
    model: GatedPixelCnn, order: RowOrder, seen: Tensor, counts: Tensor, features: Tensor
) -> tuple[list[Tensor], Tensor]:
    """Each layer's terms for the horizontal stack (B, 2C, W), and the features (B, C, D, W) moved on by this row."""
    places = model.row_places[:, order.place].transpose(0, 1)[..., None]  # (B, C, 1, 1)
    row = model.look_above(seen, counts[:, None], places)  # (B, C, 1, W)
    terms: list[Tensor] = []
    kept: list[Tensor] = []
    for layer, before in zip(model.gated, features.split(model.config.dilations, dim=2), strict=True):
        rows = torch.cat([before, row], dim=2)
        kept.append(rows[:, :, 1:])
        row, term = layer.look_above(rows, order.label)
        terms.append(term[:, :, 0])
    return terms, torch.cat(kept, dim=2)


def _horizontal(model: GatedPixelCnn, order: RowOrder, terms: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Draw the row cell by cell: values int64 (B, W), and whether the logits of each grid's row are finite (B,)."""
    count, width = order.uniform.shape
    zeros = terms[0].new_zeros(count, model.config.features)
    passed: list[list[Tensor]] = [[] for _ in terms]  # each layer's inputs, a (B, C) a column
    hot = [terms[0].new_zeros(count, model.config.values)] * COLUMNS_LEFT  # values to the left, one-hot
    drawn: list[Tensor] = []
    logits: list[Tensor] = []
    first = model.first_left.weight[:, :, 0].transpose(1, 2).flatten(1)  # (C, columns and values)
    layers = [(layer, layer.left_weight) for layer in model.gated]  # laid out once for the whole row
    for x in range(width):
        cell = functional.linear(torch.cat(hot[-COLUMNS_LEFT:], dim=1), first, model.first_left.bias)
        for (layer, left_weight), inputs, term in zip(layers, passed, terms, strict=True):
            inputs.append(cell)
            back = inputs[x - layer.dilation] if x >= layer.dilation else zeros
            cell = layer.look_left_at(cell, back, term[:, :, x], left_weight)
        logits.append(model.head(cell))
        value = choose(logits[-1], order.temperature, order.uniform[:, x])
        value = torch.where(order.given[:, x] < 0, value, order.given[:, x])
        drawn.append(value)
        hot.append(functional.one_hot(value, model.config.values).to(zeros.dtype))
    return torch.stack(drawn, dim=1), torch.stack(logits).isfinite().all(2).all(0)


def choose(logits: Tensor, temperature: Tensor, uniform: Tensor) -> Tensor:
    """A value int64 (B,) by inversion: the one in whose part of the distribution `uniform` (B,) in [0, 1) falls.

    logits (B, K), temperature (B,): the distribution is softmax(logits / temperature).
    """
    exact = logits.double()
    # The largest becomes 0 first: so small a temperature that it would divide to infinity leaves the likeliest.
    scaled = (exact - exact.amax(1, keepdim=True)) / temperature[:, None]
    upper = scaled.softmax(1).cumsum(1)[:, :-1]  # where each value's part ends; the last one's is open
    return (uniform[:, None] >= upper).sum(1)
