"""Owns the table of a model of records: its columns, and the way from records to tensors and back.

Numbers become standard normal, each by the quantiles of its column; categories become one-hot blocks. A number lies on
its column's grid, multiples of its step: whole numbers, or so many decimals. Never sees a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn import functional

from services.nn.record_values import GivenRecord, category_of, number_of, unknown_column
from shared.errors import InvalidRequest
from shared.schemas.items import Value
from shared.schemas.records import TableColumn


class _Column(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=128)
    description: str = ""


class NumberColumn(_Column):
    """Numbers in [minimum, maximum], rounded to `decimals`.

    `values` and `normals` are the knots of the line that maps a number to a standard normal one; both ascend. The
    outer knots lie half a step beyond the bounds, so that every number of the grid has a bin of its own.
    """

    type: Literal["number", "integer"]
    minimum: float
    maximum: float
    decimals: int = Field(default=0, ge=0, le=6)
    values: tuple[float, ...] = Field(min_length=2)
    normals: tuple[float, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _knots_ascend(self) -> NumberColumn:
        if len(self.values) != len(self.normals):
            raise ValueError(f"{len(self.values)} values and {len(self.normals)} normals")
        if any(a >= b for knots in (self.values, self.normals) for a, b in pairwise(knots)):
            raise ValueError("knots must ascend")
        return self

    @property
    def step(self) -> float:
        return 10.0**-self.decimals

    def listing(self) -> TableColumn:
        return TableColumn(
            name=self.name,
            type=self.type,
            description=self.description,
            minimum=self.minimum,
            maximum=self.maximum,
        )

    def value(self, number: float) -> float | int:
        """As a record holds it."""
        return round(number) if self.type == "integer" else round(number, self.decimals)


class CategoryColumn(_Column):
    """One of `categories`, whose places in this list are their codes."""

    type: Literal["category"] = "category"
    categories: tuple[str | int, ...] = Field(min_length=2)

    def listing(self) -> TableColumn:
        return TableColumn(
            name=self.name, type=self.type, description=self.description, categories=list(self.categories)
        )


Column = Annotated[NumberColumn | CategoryColumn, Field(discriminator="type")]


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """Records as tensors on the CPU: numbers float64 (N, D) in their columns' units, codes int64 (N, C)."""

    numbers: Tensor
    codes: Tensor

    @classmethod
    def of(cls, records: Sequence[GivenRecord]) -> Entries:
        numbers = torch.tensor([each.numbers for each in records], dtype=torch.float64)
        return cls(numbers, torch.tensor([each.codes for each in records], dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.numbers)

    def subset(self, indices: Tensor | slice) -> Entries:
        return Entries(self.numbers[indices], self.codes[indices])


class Table(BaseModel):
    """The columns of a model's records, as its config.json holds them. D of them are numbers, C are categories."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: tuple[Column, ...] = Field(min_length=1)

    @cached_property
    def numbers(self) -> tuple[NumberColumn, ...]:
        return tuple(each for each in self.columns if isinstance(each, NumberColumn))

    @cached_property
    def categories(self) -> tuple[CategoryColumn, ...]:
        return tuple(each for each in self.columns if isinstance(each, CategoryColumn))

    @cached_property
    def block_sizes(self) -> tuple[int, ...]:
        """How many categories each column of categories has; K together."""
        return tuple(len(each.categories) for each in self.categories)

    @property
    def width(self) -> int:
        """Of features: D + K."""
        return len(self.numbers) + sum(self.block_sizes)

    def listing(self) -> list[TableColumn]:
        return [each.listing() for each in self.columns]

    def given(self, record: Mapping[str, Value], param: str) -> GivenRecord:
        """Check a record. Raises InvalidRequest, whose param is `param` and the column."""
        for name in record:
            if name not in self._names:
                raise unknown_column(name, self._names, param)
        for name in self._names:
            if name not in record:
                field = f"{param}.{name}"
                raise InvalidRequest(f"'{field}' is required.", param=field, code="missing_required_parameter")
        numbers = (number_of(record[each.name], each.listing(), f"{param}.{each.name}") for each in self.numbers)
        codes = (category_of(record[each.name], each.categories, f"{param}.{each.name}") for each in self.categories)
        return GivenRecord(tuple(numbers), tuple(codes))

    def entries(self, records: Sequence[Mapping[str, Value]]) -> Entries:
        """Raises InvalidRequest as `given` does."""
        return Entries.of([self.given(record, f"record[{index}]") for index, record in enumerate(records)])

    def records(self, entries: Entries) -> list[dict[str, Value]]:
        """In the order of the columns."""
        return [
            self._record(numbers, codes)
            for numbers, codes in zip(entries.numbers.tolist(), entries.codes.tolist(), strict=True)
        ]

    def to_normal(self, numbers: Tensor) -> Tensor:
        """float64 (N, D) of numbers (N, D): standard normal over the training data, and exactly undone on the grid."""
        columns = zip(numbers.double().unbind(1), self._knots, strict=True)
        return _stacked([_along(x, values, normals) for x, (values, normals) in columns], numbers)

    def from_normal(self, normals: Tensor) -> Tensor:
        """Numbers (N, D) on their grid, float64 on the CPU; what lies beyond a column's range becomes its bound."""
        columns = zip(normals.double().cpu().unbind(1), self._knots, self.numbers, strict=True)
        return _stacked(
            [
                ((_along(z, knots[1], knots[0]) / each.step).round() * each.step).clamp(each.minimum, each.maximum)
                for z, knots, each in columns
            ],
            normals.double().cpu(),
        )

    def log_slopes(self, numbers: Tensor) -> Tensor:
        """float64 (N, D): log of d normal / d number, in nats, what a change of variables adds to a log density."""
        columns = zip(numbers.double().unbind(1), self._knots, strict=True)
        return _stacked([_slope(x, values, normals).log() for x, (values, normals) in columns], numbers)

    def dequantise(self, numbers: Tensor, uniforms: Tensor) -> Tensor:
        """Numbers (N, D) within their bins, at `uniforms` (N, D) in [0, 1); 0.5 is the middle, the number itself.

        A density over these bounds the probability of a bin from below (Theis 2016, arXiv:1511.01844).
        """
        steps = torch.tensor([each.step for each in self.numbers], dtype=torch.float64)
        return numbers.double() + steps * (uniforms.double() - 0.5)

    def one_hot(self, codes: Tensor) -> Tensor:
        """float32 (N, K): the columns' blocks, one after the other."""
        columns = zip(codes.unbind(1), self.block_sizes, strict=True)
        blocks = [functional.one_hot(code, size) for code, size in columns]
        return torch.cat(blocks, dim=1).float() if blocks else codes.float()

    def blocks(self, values: Tensor) -> tuple[Tensor, ...]:
        """(N, K), of logits say, as one (N, K_c) a column of categories."""
        return values.split(list(self.block_sizes), dim=1)

    def features(self, entries: Entries) -> Tensor:
        """float32 (N, D + K): what a network reads, numbers first."""
        return torch.cat([self.to_normal(entries.numbers).float(), self.one_hot(entries.codes)], dim=1)

    def error(self, given: Entries, seen: Entries) -> Tensor:
        """float64 (N,): mean over columns of the squared distance of normals, and of 1 for another category."""
        squares = (self.to_normal(given.numbers) - self.to_normal(seen.numbers)).square()
        return torch.cat([squares, (given.codes != seen.codes).double()], dim=1).mean(dim=1)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.columns)

    @cached_property
    def _knots(self) -> tuple[tuple[Tensor, Tensor], ...]:
        return tuple(
            (torch.tensor(each.values, dtype=torch.float64), torch.tensor(each.normals, dtype=torch.float64))
            for each in self.numbers
        )

    def _record(self, numbers: Sequence[float], codes: Sequence[int]) -> dict[str, Value]:
        found: dict[str, Value] = {each.name: each.value(n) for each, n in zip(self.numbers, numbers, strict=True)}
        found |= {each.name: each.categories[code] for each, code in zip(self.categories, codes, strict=True)}
        return {name: found[name] for name in self._names}


def _stacked(columns: list[Tensor], like: Tensor) -> Tensor:
    """(N, D), also where D is 0."""
    return torch.stack(columns, dim=1) if columns else like.double()


def _along(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """The line through the knots (xs, ys) at x (N,); the outer pieces go on."""
    i = _piece(x, xs)
    return ys[i] + (x - xs[i]) * (ys[i + 1] - ys[i]) / (xs[i + 1] - xs[i])


def _slope(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    i = _piece(x, xs)
    return (ys[i + 1] - ys[i]) / (xs[i + 1] - xs[i])


def _piece(x: Tensor, xs: Tensor) -> Tensor:
    """(N,) int64: the knot at or before x that its piece begins with."""
    return (torch.searchsorted(xs, x.contiguous(), right=True) - 1).clamp(0, len(xs) - 2)
