"""Owns the map from names to models and services, and how a route shares requests out. Never sees a request body."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import accumulate

from shared.config.base import ModelEntry, ServiceEntry
from shared.config.models import FleetConfig
from shared.config.routes import Affinity, RouteConfig
from shared.errors import ModelNotFound, UnsupportedTask

KeyOf = Callable[[Affinity], str | None]


@dataclass(frozen=True, slots=True)
class Route:
    """Where one model is served. `created` is when this gateway first heard of it, in seconds since the epoch."""

    service: ServiceEntry
    family: str
    model: ModelEntry
    created: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Who is to answer a request: the first of `routes`, which is never empty, and who stands in, in turn.

    `mirror` gets a copy. Requests with the same `affinity` belong together.
    """

    routes: tuple[Route, ...]
    mirror: Route | None = None
    affinity: str | None = None


@dataclass(frozen=True, slots=True)
class Fork:
    """One entry of `routes:`. `tasks` are what all its targets do."""

    config: RouteConfig
    tasks: tuple[str, ...]
    targets: tuple[Route, ...]
    fallbacks: tuple[Route, ...]
    mirror: Route | None
    created: int

    def plan(self, task: str, *, rng: random.Random, key: str | None) -> Plan:
        """Draw a target by weight: by the key if there is one, so that what belongs together stays on its side."""
        point = rng.random() if key is None else _point(f"{self.config.name}\0{key}")
        drawn = self.targets[_drawn([target.weight for target in self.config.targets], point)]
        stand_ins = (each for each in self.fallbacks if each is not drawn and task in each.model.does)
        return Plan((drawn, *stand_ins), self._mirror_of(task, rng), key)

    def _mirror_of(self, task: str, rng: random.Random) -> Route | None:
        wanted = self.config.mirror
        if wanted is None or self.mirror is None or task not in self.mirror.model.does:
            return None
        return self.mirror if rng.random() < wanted.share else None


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """An immutable snapshot of the configuration: a new one replaces it whole, so that no request sees half of two.

    `routes` are the models by id, `forks` the routes of models.yaml by name; no name is in both.
    """

    routes: Mapping[str, Route] = field(default_factory=dict[str, Route])
    services: tuple[ServiceEntry, ...] = ()
    forks: Mapping[str, Fork] = field(default_factory=dict[str, Fork])

    @classmethod
    def of(cls, fleet: FleetConfig, *, now: int, before: RoutingTable) -> RoutingTable:
        """Build the table; what `before` knew by its name keeps the time at which it was created."""
        routes: dict[str, Route] = {}
        for service in fleet.services:
            for model in service.models:
                known = before.routes.get(model.id)
                created = known.created if known else now
                routes[model.id] = Route(service, service.family, model, created)
        models = {name: route.model for name, route in routes.items()}
        forks: dict[str, Fork] = {}
        for config in fleet.routes:
            old = before.forks.get(config.name)
            forks[config.name] = Fork(
                config,
                tasks=config.common_tasks(models),
                targets=tuple(routes[target.model] for target in config.targets),
                fallbacks=tuple(routes[model] for model in config.fallbacks),
                mirror=routes[config.mirror.model] if config.mirror else None,
                created=old.created if old else now,
            )
        return cls(routes, tuple(fleet.services), forks)

    def find(self, name: str) -> Route | Fork:
        """Raises ModelNotFound."""
        found = self.routes.get(name) or self.forks.get(name)
        if found is None:
            raise ModelNotFound(name)
        return found

    def plan(self, name: str, task: str, *, rng: random.Random, key_of: KeyOf) -> Plan:
        """Who is to do a task for a request that asks for `name`. `key_of` finds the request's key of an affinity.

        Raises ModelNotFound, UnsupportedTask when the model, or a target of the route, does not do the task, and what
        `key_of` raises.
        """
        found = self.find(name)
        tasks = found.tasks if isinstance(found, Fork) else found.model.does
        if task not in tasks:
            raise UnsupportedTask(model=name, task=task, tasks=tasks)
        if isinstance(found, Fork):
            return found.plan(task, rng=rng, key=key_of(found.config.affinity))
        return Plan((found,))

    def kept_services(self) -> Iterable[str]:
        """The services that always have a replica: those that readiness asks."""
        return (service.name for service in self.services if service.is_kept)


def _drawn(weights: Sequence[float], point: float) -> int:
    """The index of the weight that a point in [0, 1) of them all together falls on."""
    sums = list(accumulate(weights))
    at = point * sums[-1]
    return next((i for i, end in enumerate(sums) if at < end), len(sums) - 1)  # rounding may put it on the very end


def _point(key: str) -> float:
    """The same point in [0, 1) for the same key; keys fall evenly."""
    return int.from_bytes(blake2b(key.encode(), digest_size=6).digest(), "big") / 2**48
