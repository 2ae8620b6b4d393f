"""Owns whether a request's answer would come in time at this replica, from its exact cost and the exact queue.

Never sees Ray, HTTP or a tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from services.engine.backlog import Waiting as EngineWaiting
from services.engine.contract import Params, steps_of
from services.engine.stats import ModelStats
from shared.calls import Call
from shared.prediction import LONGEST_RETRY_S, UNSEEN, Load, Pace, Share, Waiting, predict, retry_after_s

EXACT_MEMORY = 32  # requests after which what was learned of a bound counts for 1/e


class Queue(Protocol):
    """The part of the engine that tells how it stands."""

    def waiting(self, model: str) -> Sequence[EngineWaiting]: ...
    def stats(self) -> Mapping[str, ModelStats]: ...


@dataclass(slots=True)
class _Bounds:
    """Fading sums over requests: their costs, their longest rows' steps, and the bounds that they alone gave."""

    costs: float = 0.0
    steps: float = 0.0
    bounds: float = 0.0


class Admission:
    """Refuses what would be late or wait too long, and learns how close the gateway's bounds are to exact costs."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._bounds: dict[str, _Bounds] = {}

    def check(self, call: Call, rows: Sequence[Params], *, left_s: float | None, max_wait_s: float) -> None:
        """`left_s` is until the request's deadline, in seconds. Raises Overloaded."""
        stats = self._queue.stats().get(call.model)
        if stats is None:
            return
        share = Share(int(call.priority), call.tenant, call.weight)
        prediction = predict(
            load_of(self._queue, call.model, stats), pace_of(stats), share, cost=_cost(rows), steps=_steps(rows)
        )
        if prediction is not None:
            prediction.check(deadline_s=left_s, max_wait_s=max_wait_s)

    def retry_after_s(self, model: str, excess: float) -> float:
        """How long until so many units of cost that wait have been served."""
        stats = self._queue.stats().get(model)
        pace = UNSEEN if stats is None else pace_of(stats)
        seconds = pace.seconds(excess)
        return LONGEST_RETRY_S if seconds is None else retry_after_s(seconds)

    def learn(self, model: str, rows: Sequence[Params], *, bound: float) -> None:
        """A request whose bound is known turned out to have these rows."""
        if bound <= 1.0:  # one unit is as exact as it gets; many such must not make the rest forgotten
            return
        seen = self._bounds.setdefault(model, _Bounds())
        keep = 1 - 1 / EXACT_MEMORY
        seen.costs = keep * seen.costs + _cost(rows)
        seen.steps = keep * seen.steps + _steps(rows)
        seen.bounds = keep * seen.bounds + bound

    def pace(self, model: str, stats: ModelStats) -> Pace:
        """The engine's pace, and what was learned of bounds."""
        seen = self._bounds.get(model)
        if seen is None:
            return pace_of(stats)
        return replace(pace_of(stats), exact=seen.costs / seen.bounds, exact_steps=seen.steps / seen.bounds)


def _cost(rows: Sequence[Params]) -> float:
    return sum(row.cost for row in rows)


def _steps(rows: Sequence[Params]) -> float:
    """Of the longest row: rows run beside each other."""
    return max(steps_of(row) for row in rows)


def pace_of(stats: ModelStats) -> Pace:
    pace = stats.pace
    return Pace(pace.units_per_second, pace.seconds_per_step, pace.used)


def load_of(queue: Queue, model: str, stats: ModelStats) -> Load:
    return Load(waiting_of(queue, model), stats.running_rows, stats.running_cost, stats.free_rows)


def waiting_of(queue: Queue, model: str) -> tuple[Waiting, ...]:
    return tuple(
        Waiting(Share(each.share.priority, each.share.tenant, each.share.weight), each.cost, each.rows)
        for each in queue.waiting(model)
    )
