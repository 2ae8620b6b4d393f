"""Owns how Ray Serve asks for a decision: its context in, a number of replicas out.

Ray pickles this module by value and runs it in its controller, so it imports what it needs and no more. Ray itself
starts one replica as soon as a service with none has a request, and asks nobody before that one runs.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol

from services.scaling.load import ReplicaLoad
from services.scaling.policy import Memory, Targets, View, decide


class Point(Protocol):
    @property
    def value(self) -> float: ...


class Context(Protocol):
    """The part of `ray.serve.config.AutoscalingContext` that is read here."""

    current_time: float
    running_replicas: Sequence[Hashable]
    target_num_replicas: int
    capacity_adjusted_min_replicas: int
    capacity_adjusted_max_replicas: int
    policy_state: Mapping[str, Any]

    @property
    def total_num_requests(self) -> float: ...
    @property
    def raw_metrics(self) -> Mapping[str, Mapping[Hashable, Sequence[Point]]] | None: ...


class PredictedWait:
    """Ray makes one for each service, of `policy_kwargs`. What it remembers, Ray keeps for it."""

    def __init__(self, **targets: float) -> None:
        self._targets = Targets(**targets)

    def __call__(self, context: Context) -> tuple[int, dict[str, Any]]:
        view = View(
            at=context.current_time,
            loads=_loads(context),
            wanted=context.target_num_replicas,
            least=context.capacity_adjusted_min_replicas,
            most=context.capacity_adjusted_max_replicas,
            requests=context.total_num_requests,
        )
        wanted, memory = decide(view, self._targets, context.policy_state.get("memory", Memory()))
        return wanted, {"memory": memory}


def _loads(context: Context) -> list[ReplicaLoad | None]:
    """What each running replica said last; Ray's own means over a window would only say it later."""
    series = context.raw_metrics or {}
    return [
        ReplicaLoad.from_metrics({name: of[replica][-1].value for name, of in series.items() if of.get(replica)})
        for replica in context.running_replicas
    ]
