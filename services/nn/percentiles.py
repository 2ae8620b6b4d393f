"""Owns what a score is compared with: where it stands among a model's training data and held-out data."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, RootModel
from torch import Tensor

from shared.schemas.scores import Percentile

SCORES = "scores.json"
_POINTS = 201


class Distribution(BaseModel):
    """Evenly spaced quantiles, ascending: the minimum first, the maximum last."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    quantiles: tuple[float, ...]

    @classmethod
    def of(cls, values: Tensor) -> Distribution:
        """`values` (N,), the higher the likelier."""
        levels = torch.linspace(0, 1, _POINTS, dtype=torch.float64)
        return cls(quantiles=tuple(round(value, 4) for value in torch.quantile(values.double(), levels).tolist()))

    def share_below(self, value: float) -> float:
        """In percent, linear between quantiles: 0 below the minimum, 100 above the maximum."""
        points = self.quantiles
        at = bisect_left(points, value)
        if at == 0:
            return 0.0
        if at == len(points):
            return 100.0
        low, high = points[at - 1], points[at]
        return 100 * (at - 1 + (value - low) / (high - low)) / (len(points) - 1)


class Known(BaseModel):
    """One metric's scores of both parts of the data."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    training: Distribution
    held_out: Distribution

    def percentile(self, value: float) -> Percentile:
        """`value`: the higher the likelier, so that an energy comes negated, here as in `of`."""
        training, held_out = self.training.share_below(value), self.held_out.share_below(value)
        return Percentile(training=round(training, 2), held_out=round(held_out, 2))


class _File(RootModel[dict[str, Known]]):
    model_config = ConfigDict(frozen=True)


def write_known(folder: Path, scores: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """scores.json: of each metric the scores of training data and of held-out data, each (N,)."""
    known = {
        name: Known(training=Distribution.of(training), held_out=Distribution.of(held_out))
        for name, (training, held_out) in scores.items()
    }
    (folder / SCORES).write_text(_File(known).model_dump_json() + "\n")


def read_known(folder: Path, metrics: Sequence[str]) -> dict[str, Known]:
    """What `write_known` wrote of these metrics; nothing of those that it did not."""
    path = folder / SCORES
    if not path.is_file():
        return {}
    known = _File.model_validate_json(path.read_bytes()).root
    return {name: known[name] for name in metrics if name in known}
