"""Owns a service's replicas and nodes as real numbers of them: what starts, runs, drains, and is paid for."""

from __future__ import annotations

import math
from bisect import insort
from dataclasses import dataclass, field

from loadtests.planner.plan import Node, Service

Cohort = tuple[float, int]  # when, and how many


@dataclass(slots=True)
class Nodes:
    """Nodes of `slots` replicas each, filled one after the other. `node` of None: replicas need not wait for one."""

    node: Node | None
    slots: int
    ready: int = 0
    coming: list[Cohort] = field(default_factory=list[Cohort])
    _spare_since: float | None = None
    _spare_most: int = 0

    @property
    def total(self) -> int:
        return self.ready + sum(count for _, count in self.coming)

    def place(self, used: int, replicas: int, now: float) -> list[Cohort]:
        """When there is room for so many replicas more; nodes that are missing for them are asked for."""
        if self.node is None:
            return [(now, replicas)]
        missing = self.needed(used + replicas) - self.total
        if missing > 0:
            insort(self.coming, (now + self.node.start_s, missing))
        found: list[Cohort] = []
        room = 0
        for at, nodes in [(now, self.ready), *self.coming]:
            room += nodes * self.slots
            count = min(replicas, room - used)
            if count > 0:
                found.append((at, count))
                used, replicas = used + count, replicas - count
        return found

    def settle(self, used: int, now: float) -> None:
        """Nodes that have come are there; those that were not needed for a while go."""
        while self.coming and self.coming[0][0] <= now:
            self.ready += self.coming.pop(0)[1]
        needed = self.needed(used)
        if self.node is None or needed >= self.total:
            self._spare_since = None
            return
        if self._spare_since is None:
            self._spare_since, self._spare_most = now, 0
        self._spare_most = max(self._spare_most, needed)
        if now - self._spare_since >= self.node.idle_s:
            self._release(self.total - self._spare_most)
            self._spare_since = None

    def needed(self, replicas: int) -> int:
        return math.ceil(replicas / self.slots)

    def _release(self, nodes: int) -> None:
        while nodes > 0 and self.coming:
            at, count = self.coming.pop()
            gone = min(nodes, count)
            nodes -= gone
            if count > gone:
                self.coming.append((at, count - gone))
        self.ready -= nodes


@dataclass(slots=True)
class Fleet:
    """The newest replicas go first, those that are still starting before all others."""

    service: Service
    drain_s: float
    running: int
    starting: list[Cohort] = field(default_factory=list[Cohort])
    draining: list[Cohort] = field(default_factory=list[Cohort])
    nodes: Nodes = field(init=False)

    def __post_init__(self) -> None:
        self.nodes = Nodes(self.service.node, self.service.replicas_per_node)
        self.nodes.ready = self.nodes.needed(self.running)

    @property
    def paid(self) -> int:
        """Replicas that hold a device."""
        return self.running + sum(count for _, count in self.starting) + sum(count for _, count in self.draining)

    @property
    def devices(self) -> float:
        """That are paid for: of whole nodes, or else those that replicas hold. A part of one is a whole one."""
        service = self.service
        if service.node is not None:
            return float(self.nodes.total * service.node.devices)
        return float(self.paid * service.share if service.share >= 1 else self.nodes.needed(self.paid))

    def settle(self, now: float) -> None:
        while self.starting and self.starting[0][0] <= now:
            self.running += self.starting.pop(0)[1]
        while self.draining and self.draining[0][0] <= now:
            self.draining.pop(0)
        self.nodes.settle(self.paid, now)

    def follow(self, wanted: int, now: float) -> None:
        change = wanted - self.running - sum(count for _, count in self.starting)
        if change > 0:
            for at, count in self.nodes.place(self.paid, change, now):
                insort(self.starting, (max(at, now) + self.service.start_s, count))
        elif change < 0:
            self._stop(-change, now)

    def _stop(self, replicas: int, now: float) -> None:
        while replicas > 0 and self.starting:
            at, count = self.starting.pop()
            gone = min(replicas, count)
            replicas -= gone
            if count > gone:
                self.starting.append((at, count - gone))
        if replicas > 0:
            self.running -= replicas
            self.draining.append((now + self.drain_s, replicas))
