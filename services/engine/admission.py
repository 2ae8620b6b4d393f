"""Owns what the engine refuses at the door: malformed rows, and more work than may wait."""

from __future__ import annotations

import math
from collections.abc import Sequence

from services.engine.contract import Params
from services.engine.errors import QueueFull


def row_costs(rows: Sequence[Params], *, weight: float, deadline: float | None) -> list[float]:
    """Each row's cost. ValueError for no rows, a cost that is negative or not finite, or a bad weight or deadline."""
    if not rows:
        raise ValueError("a request needs at least one row")
    if not (math.isfinite(weight) and weight > 0):
        raise ValueError(f"weight must be finite and over 0, got {weight}")
    if deadline is not None and math.isnan(deadline):
        raise ValueError("deadline is not a number")
    costs = [float(params.cost) for params in rows]
    for cost in costs:
        if not (math.isfinite(cost) and cost >= 0):
            raise ValueError(f"cost must be finite and at least 0, got {cost}")
    return costs


def check_room(*, limit: float, waiting: float, cost: float) -> None:
    """QueueFull if the waiting cost would exceed the limit; a request over the limit is refused by an empty queue."""
    if waiting + cost > limit:
        raise QueueFull(limit=limit, waiting=waiting, got=cost)
