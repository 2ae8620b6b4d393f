"""Owns how the real policy (`services/scaling`) is asked about a service of which only some replicas are simulated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from services.scaling.load import ReplicaLoad
from services.scaling.policy import Memory, Targets, View, decide
from shared.config.base import ReplicaRange

MOST_SEEN = 256


@dataclass(slots=True)
class Autoscaler:
    """The policy is shown up to `MOST_SEEN` replicas, which the simulated ones stand for in turn.

    Where there are more, each of those is `unit` of them, and what is wanted is counted in units too: the policy deals
    in sums and shares alone, so that its answer grows with the unit, but for rounding.
    """

    replicas: ReplicaRange
    wanted: int
    _memory: Memory = field(default_factory=Memory)
    _unit: float = 1.0

    def decide(self, at: float, running: int, loads: Sequence[ReplicaLoad | None], requests: float) -> int:
        """The number of replicas that are wanted from now on. `loads` are of the simulated ones."""
        replicas = self.replicas
        if replicas.min == replicas.max:
            return self.wanted
        if running == 0:  # Ray starts one for the first request, and asks nobody before that one runs
            self.wanted = self.wanted or int(requests > 0)
            return self.wanted
        shown = min(running, max(MOST_SEEN, len(loads)))
        unit = running / shown
        self._memory = replace(self._memory, spare_need=math.ceil(self._memory.spare_need * self._unit / unit))
        self._unit = unit
        view = View(
            at=at,
            loads=[loads[index * len(loads) // shown] for index in range(shown)],
            wanted=self.wanted / unit,  # type: ignore[arg-type]  the policy only compares it
            least=replicas.min,
            most=math.ceil(replicas.max / unit),
            requests=requests / unit,
        )
        found, self._memory = decide(view, Targets(**replicas.targets), self._memory)
        if found != view.wanted:
            self.wanted = min(max(round(found * unit), replicas.min), replicas.max)
        return self.wanted
