"""Owns the decision how many replicas a service should have: a pure function of what is known and remembered.

A new request goes to the least busy replica, and waits there for what is queued. So more replicas are wanted when it
would wait too long even there, or is about to: when all are as busy as they should get. How many is what arrives over
what one can do, not the length of the queue: requests that a replica has taken stay with it, so a replica that starts
later does nothing for them.

Some may go once the others could do all that is done now, with a margin, and this has lasted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.scaling.load import ReplicaLoad


@dataclass(frozen=True, slots=True)
class Targets:
    """What `replicas` in models.yaml says, by the same names."""

    target_wait_s: float
    target_busy: float
    target_ongoing: float
    growth: float
    release: float
    upscale_delay_s: float
    downscale_delay_s: float
    idle_s: float


@dataclass(frozen=True, slots=True)
class View:
    """A service at one moment. `wanted` is what the last decision asked for: replicas over those that run are starting.

    `loads` has one entry for each replica that runs, None for one that has said nothing yet. `requests` are all that
    the service has been sent and not answered, also those that wait for its first replica.
    """

    at: float
    loads: Sequence[ReplicaLoad | None]
    wanted: int
    least: int
    most: int
    requests: float

    @property
    def running(self) -> int:
        return len(self.loads)


@dataclass(frozen=True, slots=True)
class Memory:
    """Since when something has been so; None: it is not."""

    short_since: float | None = None  # more replicas are needed
    spare_since: float | None = None  # fewer would do
    spare_need: int = 0  # the most that were needed since then
    idle_since: float | None = None  # there is no request


def decide(view: View, targets: Targets, memory: Memory) -> tuple[int, Memory]:
    """The number of replicas wanted from now on, within `least` and `most`, and what to remember."""
    memory = replace(memory, idle_since=_since(memory.idle_since, view.at, so=view.requests <= 0))
    if view.least == 0 and _lasted(memory.idle_since, view.at, targets.idle_s):
        return 0, Memory(idle_since=memory.idle_since)
    wanted, memory = _more(view, targets, memory)
    if wanted <= view.wanted:
        wanted, memory = _fewer(view, targets, memory)
    return min(max(wanted, view.least), view.most), memory


def _more(view: View, targets: Targets, memory: Memory) -> tuple[int, Memory]:
    """Replicas wanted at once, if there are too few. Those that are starting are on their way and count in full."""
    reach = max(1, math.floor(view.running * targets.growth))  # growth is counted from what runs, so it waits for that
    wanted = min(needed(view, targets), max(reach, view.running + 1), view.most)
    memory = replace(memory, short_since=_since(memory.short_since, view.at, so=wanted > view.wanted))
    if not _lasted(memory.short_since, view.at, targets.upscale_delay_s):
        return view.wanted, memory
    return wanted, replace(memory, short_since=None, spare_since=None)


def _fewer(view: View, targets: Targets, memory: Memory) -> tuple[int, Memory]:
    """The most that was needed since fewer would do, once that has lasted."""
    need = kept(view, targets)
    if need >= view.wanted:
        return view.wanted, replace(memory, spare_since=None)
    since = view.at if memory.spare_since is None else memory.spare_since
    need = need if memory.spare_since is None else max(need, memory.spare_need)
    if view.at - since < targets.downscale_delay_s:
        return view.wanted, replace(memory, spare_since=since, spare_need=need)
    return need, replace(memory, spare_since=None)


def needed(view: View, targets: Targets) -> int:
    """Replicas that would keep up with what arrives; none, if those that run keep within the targets."""
    # One that has said nothing has just started, and has room.
    loads = [load or ReplicaLoad() for load in view.loads]
    if not _is_paced(loads):
        return math.ceil(view.requests / targets.target_ongoing)
    is_full = sum(load.busy for load in loads) > len(loads) * targets.target_busy
    if not is_full and not _is_late(loads, targets):
        return 0
    return math.ceil(sum(load.arriving for load in loads) / targets.target_busy)


def kept(view: View, targets: Targets) -> int:
    """The fewest replicas, at least one, that could do what is done now and keep below the targets by a margin.

    All of them while one has not said how it is, or a new request would wait too long.
    """
    loads = [load for load in view.loads if load is not None]
    if len(loads) < view.running or _is_late(loads, targets):
        return view.wanted
    replicas = sum(load.busy for load in loads) / targets.target_busy
    if not _is_paced(loads):
        replicas = view.requests / targets.target_ongoing
    return max(1, math.ceil(replicas / targets.release))


def _is_late(loads: Sequence[ReplicaLoad], targets: Targets) -> bool:
    """Whether a new request would wait too long, wherever it goes."""
    return min((load.wait_s for load in loads), default=0.0) > targets.target_wait_s


def _is_paced(loads: Sequence[ReplicaLoad]) -> bool:
    """Whether a queue has been seen to drain, so that a wait can be predicted at all."""
    return any(load.is_paced for load in loads)


def _since(since: float | None, now: float, *, so: bool) -> float | None:
    return (now if since is None else since) if so else None


def _lasted(since: float | None, now: float, seconds: float) -> bool:
    return since is not None and now - since >= seconds
