"""Owns the cells of a table: every value of every column as an interval of the real line. Never sees a network."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from services.nn.records import Entries, Table

FAR = 9.0  # an end of the line, as good as infinity: a standard normal is beyond it once in 10^19


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The cells of columns of M_f values, numbers before categories; all on the CPU, one column after the other.

    edges float32 (sum of M_f + 1): the first of a column's is -FAR, the last FAR. middles float32 (sum of M_f).
    """

    table: Table
    sizes: tuple[int, ...]
    edges: Tensor
    middles: Tensor

    @classmethod
    def of(cls, table: Table) -> Grid:
        """Numbers lie where the table maps them, half a step to each side; categories share the normal evenly."""
        columns = [*_number_cells(table), *(_category_cells(size) for size in table.block_sizes)]
        return cls(
            table,
            tuple(len(middles) for _, middles in columns),
            torch.cat([edges for edges, _ in columns]).float(),
            torch.cat([middles for _, middles in columns]).float(),
        )

    def indices(self, entries: Entries) -> Tensor:
        """Records as int64 (N, F): which cell of its column a value is in."""
        numbers = [
            ((column - each.minimum) / each.step).round().long()
            for column, each in zip(entries.numbers.unbind(1), self.table.numbers, strict=True)
        ]
        return torch.stack([*numbers, *entries.codes.unbind(1)], dim=1)

    def entries(self, indices: Tensor) -> Entries:
        """The records of int64 (N, F)."""
        count = len(self.table.numbers)
        numbers = [
            each.minimum + column.double() * each.step
            for column, each in zip(indices[:, :count].unbind(1), self.table.numbers, strict=True)
        ]
        empty = torch.empty(len(indices), 0, dtype=torch.float64)
        return Entries(torch.stack(numbers, dim=1) if numbers else empty, indices[:, count:])

    def bounds(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Lower and upper edges (N, F) of cells (N, F)."""
        at = indices + torch.tensor(self._starts(1))
        return self.edges[at], self.edges[at + 1]

    def centres(self, indices: Tensor) -> Tensor:
        """(N, F) of cells (N, F)."""
        return self.middles[indices + torch.tensor(self._starts(0))]

    def cells(self, column: int, x: Tensor) -> Tensor:
        """int64 (N,): which cells of a column points (N,) are in."""
        start, size = self._starts(1)[column], self.sizes[column]
        inner = self.edges[start + 1 : start + size]
        return torch.searchsorted(inner, x.contiguous().to(inner), right=True)

    def _starts(self, extra: int) -> list[int]:
        return [0, *accumulate(size + extra for size in self.sizes)][:-1]


def _number_cells(table: Table) -> list[tuple[Tensor, Tensor]]:
    """Edges and middles float64 of each column of numbers."""
    counts = [round((each.maximum - each.minimum) / each.step) + 1 for each in table.numbers]
    most = max(counts, default=0)
    steps = torch.arange(2 * most + 1, dtype=torch.float64)[:, None] / 2 - 0.5  # edge, middle, edge ...
    values = [each.minimum + steps[:, 0] * each.step for each in table.numbers]
    normals = table.to_normal(torch.stack(values, dim=1)) if values else steps
    return [_ended(normals[: 2 * count + 1, i]) for i, count in enumerate(counts)]


def _category_cells(size: int) -> tuple[Tensor, Tensor]:
    levels = torch.arange(2 * size + 1, dtype=torch.float64) / (2 * size)
    return _ended(torch.special.ndtri(levels))


def _ended(points: Tensor) -> tuple[Tensor, Tensor]:
    """Edges, with both ends of the line, and middles of alternate points (2 M + 1,)."""
    edges = points[::2].clone()
    edges[0], edges[-1] = -FAR, FAR
    return edges, points[1::2]
