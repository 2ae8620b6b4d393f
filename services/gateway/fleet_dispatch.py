"""Owns who reaches a service: Ray Serve those that run here, HTTP those that run elsewhere. Never sees a request."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from services.gateway.dispatcher import Dispatcher
from services.gateway.upstreams import UpstreamDispatcher
from shared.calls import Call
from shared.config.models import FleetConfig
from shared.events import RowEvent
from shared.reports import ReplicaReport


class FleetDispatcher:
    """A `Dispatcher` of both kinds of services."""

    def __init__(self, replicas: Dispatcher, upstreams: UpstreamDispatcher) -> None:
        self._replicas = replicas
        self._upstreams = upstreams
        self._elsewhere: frozenset[str] = frozenset()

    def configure(self, fleet: FleetConfig) -> None:
        """Take over which services run elsewhere. One that is gone still does: Ray never heard of it."""
        self._upstreams.configure(fleet.upstreams)
        elsewhere = self._elsewhere.union(service.name for service in fleet.upstreams)
        self._elsewhere = elsewhere.difference(service.name for service in fleet.hosted)

    def stream(self, service: str, call: Call) -> AsyncGenerator[list[RowEvent], None]:
        return self._of(service).stream(service, call)

    async def ping(self, service: str) -> None:
        await self._of(service).ping(service)

    async def reports(self, service: str) -> Sequence[ReplicaReport]:
        return await self._of(service).reports(service)

    async def close(self) -> None:
        await self._replicas.close()
        await self._upstreams.close()

    def _of(self, service: str) -> Dispatcher:
        return self._upstreams if service in self._elsewhere else self._replicas
