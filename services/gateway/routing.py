"""Owns the map from models to services. Never sees a request body."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from shared.config.base import ModelConfig, ServiceConfig
from shared.config.models import FleetConfig
from shared.errors import ModelNotFound, UnsupportedTask


@dataclass(frozen=True, slots=True)
class Route:
    """Where one model is served. `created` is when this gateway first heard of it, in seconds since the epoch."""

    service: ServiceConfig
    family: str
    model: ModelConfig
    created: int


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """An immutable snapshot of the configuration: a new one replaces it whole, so that no request sees half of two."""

    routes: Mapping[str, Route] = field(default_factory=dict[str, Route])
    services: tuple[ServiceConfig, ...] = ()

    @classmethod
    def of(cls, fleet: FleetConfig, *, now: int, before: RoutingTable) -> RoutingTable:
        """Build the table; models that `before` knew keep the time at which they were created."""
        routes: dict[str, Route] = {}
        for service in fleet.services:
            for model in service.models:
                known = before.routes.get(model.id)
                created = known.created if known else now
                routes[model.id] = Route(service, service.family, model, created)
        return cls(routes, tuple(fleet.services))

    def find(self, model: str) -> Route:
        """Raises ModelNotFound."""
        route = self.routes.get(model)
        if route is None:
            raise ModelNotFound(model)
        return route

    def route(self, model: str, task: str) -> Route:
        """Raises ModelNotFound, or UnsupportedTask when the model's family does not do the task."""
        route = self.find(model)
        if task not in route.model.TASKS:
            raise UnsupportedTask(model=model, task=task, tasks=route.model.TASKS)
        return route

    def kept_services(self) -> Iterable[str]:
        """The services that always have a replica: those that readiness asks."""
        return (service.name for service in self.services if service.replicas.min > 0)
