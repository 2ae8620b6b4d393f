"""Owns what was measured of one replica, and the speeds that follow from it for every number of running rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from loadtests.planner.forms import Part, Quantity, Seconds

Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rows = Annotated[int, Field(ge=1, le=4096)]


class Rates(Part):
    """Measured rates of one replica, in a plan or in a JSON file beside it.

    `units_per_second` is of all running rows together, by how many run: between the sizes it is interpolated, over the
    largest it stays, under the smallest it is in proportion. A unit is the model's own: a token of an answer, a
    denoising step of an image, a whole item. `prompt_units_per_second` is how fast a prompt is read while nothing else
    runs. With `prompt_piece` a step reads so many units of a prompt and makes a unit for every other row; without it a
    prompt is read whole while the others wait. `overhead_s` is what a request alone takes besides: network, gateway.
    """

    model: str | None = None
    device: str | None = None
    units_per_second: Annotated[dict[Rows, Rate], Field(min_length=1)]
    places: Rows | None = Field(default=None, description="max_batch_size; the largest batch that was measured if left")
    prompt_units_per_second: Rate | None = None
    prompt_piece: Rate | None = None
    overhead_s: Seconds = 0.0

    @property
    def rows(self) -> int:
        return self.places or max(self.units_per_second)

    def together(self, rows: int) -> float:
        """Units a second of so many rows together."""
        sizes = sorted(self.units_per_second)
        return float(np.interp(rows, [0, *sizes], [0.0, *(self.units_per_second[size] for size in sizes)]))


@dataclass(frozen=True, slots=True)
class Speeds:
    """By the number of rows that make units, a second: `row` units of each, and `work` of all of them.

    The same while a prompt is read beside them, and how much of it is. Work is counted in seconds of a full replica, so
    that a queue drains at one a second.
    """

    places: int
    prompt_s: float  # seconds to read a unit of a prompt alone
    unit_s: float  # seconds of a full replica for a unit
    row: Sequence[float]
    work: Sequence[float]
    row_reading: Sequence[float]
    read: Sequence[float]
    work_reading: Sequence[float]

    @classmethod
    def of(cls, rates: Rates) -> Speeds:
        """A step that makes a unit for each of b rows takes t(b) = b / rate(b); one with a piece of a prompt, longer.

        A row makes a unit in each step, so a step's duration is all that it takes to know both.
        """
        prompt_s = 1 / (rates.prompt_units_per_second or float("inf"))
        unit_s = 1 / rates.together(rates.rows)
        row, row_reading, read = [0.0], [0.0], [1 / prompt_s if prompt_s else 0.0]
        for rows in range(1, rates.rows + 1):
            step_s = rows / rates.together(rows)
            row.append(1 / step_s)
            if rates.prompt_piece is None:
                row_reading.append(0.0)
                read.append(read[0])
            else:
                reading_s = step_s + rates.prompt_piece * prompt_s
                row_reading.append(1 / reading_s)
                read.append(rates.prompt_piece / reading_s)
        work = [rows * each * unit_s for rows, each in enumerate(row)]
        both = [rows * unit_s * row_reading[rows] + prompt_s * read[rows] for rows in range(rates.rows + 1)]
        return cls(rates.rows, prompt_s, unit_s, row, work, row_reading, read, both)

    def work_of(self, prompt: Quantity, output: Quantity) -> float:
        return prompt * self.prompt_s + output * self.unit_s

    def alone_s(self, prompt: float, output: float) -> float:
        """What a request takes from its start to its end in a full replica."""
        return prompt * self.prompt_s + output / self.row[self.places]
