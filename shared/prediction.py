"""Owns the prediction of when a request's answer will be there, from what waits and how fast it goes. Pure.

The waiting rows of a replica are served in the order of `services.engine.policy`: strict priority, then self-clocked
fair queuing by tenant (Golestani, INFOCOM '94), then arrival. So a request waits for all cost of better priorities, for
its own tenant's that is there already, and for no more of another tenant's than what falls due in the same rounds: its
tag is F = v + (own + cost) / w, and another tenant is served up to F before it, which is at most (own + cost) / w * w'
of its cost. Before all that a place must come free: of the rows that run one leaves, on average, for each mean cost of
theirs that is served. Where places are free, as many rows start at once, whatever they cost. What arrives later with a
better priority is not foreseen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import Overloaded

# Predictions are means. A queue that is admitted up to its mean has half of its answers late, and in an overload the
# queue stands at that very edge: so the time allowed is this much longer than the time predicted.
MARGIN = 1.25
SHORTEST_RETRY_S = 1.0
LONGEST_RETRY_S = 30.0


@dataclass(frozen=True, slots=True)
class Share:
    """Whose a request is, and what it may claim: smaller priorities go first, tenants share by weight."""

    priority: int
    tenant: str
    weight: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """What one tenant has waiting in one priority, in units of cost; the weight is that of its newest request."""

    share: Share
    cost: float
    rows: int = 1


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a model has been of late, where it runs. None: it has not been seen yet.

    `units_per_second` is of all rows together, over the time in which some row had to wait: what a queue drains at.
    `seconds_per_step` is what a running row takes for each step that it was predicted to take. `used` is the work done
    over the cost, of rows that ended well. `exact` is the cost of a request over the bound that the request alone
    gives; `exact_steps` are the steps of its longest row over that bound.
    """

    units_per_second: float | None = None
    seconds_per_step: float | None = None
    used: float | None = None
    exact: float | None = None
    exact_steps: float | None = None

    def work(self, cost: float) -> float:
        """What so much cost turns out to be, in units, going by rows of late."""
        return cost if self.used is None else self.used * cost

    def seconds(self, cost: float) -> float | None:
        """How long a queue of so much cost takes to drain; None where none has been seen to."""
        return None if self.units_per_second is None else self.work(cost) / self.units_per_second


UNSEEN = Pace()


@dataclass(frozen=True, slots=True)
class Load:
    """What a request meets: the queue, the rows that run, and the places that nobody waits for."""

    waiting: Sequence[Waiting]
    running_rows: int
    running_cost: float = 0.0
    free_rows: int = 0

    @property
    def is_idle(self) -> bool:
        return self.running_rows == 0 and not self.waiting

    @property
    def next_place(self) -> float:
        """The cost that is served, on average, until a row of the full batch leaves; 0 if nothing waits for that."""
        rows = self.running_rows + self.free_rows
        return (self.running_cost + self.free_cost) / rows if self.waiting and rows else 0.0

    @property
    def free_cost(self) -> float:
        """The cost of as many waiting rows, of the mean size, as there are free places for."""
        rows = sum(each.rows for each in self.waiting)
        return self.free_rows * sum(each.cost for each in self.waiting) / rows if rows else 0.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """Seconds until the request's rows start, and from there until the last one ends."""

    wait_s: float
    service_s: float

    def check(self, *, deadline_s: float | None, max_wait_s: float) -> None:
        """Raises Overloaded if the answer would come too late, or wait too long; it says when it would not."""
        total_s = MARGIN * (self.wait_s + self.service_s)
        if deadline_s is not None and total_s > deadline_s:
            message = (
                f"The answer is predicted to take up to {total_s:.3g} seconds, {MARGIN * self.wait_s:.3g} of them "
                f"waiting; the request's deadline is in {deadline_s:.3g}."
            )
            raise Overloaded(message, retry_after=retry_after_s(min(self.wait_s, total_s - deadline_s)))
        if self.wait_s > max_wait_s:
            message = f"The request is predicted to wait {self.wait_s:.3g} seconds; {max_wait_s:.3g} are allowed."
            raise Overloaded(message, retry_after=retry_after_s(self.wait_s - max_wait_s))


def predict(load: Load, pace: Pace, share: Share, *, cost: float, steps: float) -> Prediction | None:
    """When a request of so much cost, whose longest row takes so many steps, would be done; None if that is not known.

    Nothing is predicted of an idle model: a pace that was learned under load must not keep it idle.
    """
    if load.is_idle:
        return None
    wait_s = pace.seconds(_waits_for(load, cost_ahead(load.waiting, share, cost)))
    return None if wait_s is None else Prediction(wait_s, steps * (pace.seconds_per_step or 0.0))


def queue_wait_s(load: Load, pace: Pace) -> float | None:
    """Seconds that a request would wait behind all that waits; None where no queue has been seen to drain yet."""
    return pace.seconds(_waits_for(load, sum(each.cost for each in load.waiting)))


def _waits_for(load: Load, ahead: float) -> float:
    """The cost that is served before a request starts which has so much ahead of it in the queue."""
    return 0.0 if ahead < load.free_cost else load.next_place + ahead - load.free_cost


def cost_ahead(waiting: Sequence[Waiting], share: Share, cost: float) -> float:
    """The cost that is served before the last row of a new request of this share."""
    key = (share.priority, share.tenant)
    own = sum(each.cost for each in waiting if (each.share.priority, each.share.tenant) == key)
    ahead = own
    for each in waiting:
        if each.share.priority < share.priority:
            ahead += each.cost
        elif each.share.priority == share.priority and each.share.tenant != share.tenant:
            ahead += min(each.cost, (own + cost) * each.share.weight / share.weight)
    return ahead


def retry_after_s(seconds: float) -> float:
    """How long a refused client should stay away, within bounds that clients obey."""
    return min(max(seconds, SHORTEST_RETRY_S), LONGEST_RETRY_S)
