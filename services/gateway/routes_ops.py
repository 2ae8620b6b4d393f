"""Owns what operators ask: is the process up, does the data path answer, what are the figures, which replicas run."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from services.gateway.answer_docs import open_responses, read_responses
from services.gateway.dispatcher import ReplicaLost
from services.gateway.record import record_of
from services.gateway.routing import RoutingTable
from services.gateway.state import GatewayState
from shared.config.base import ServiceConfig, ServiceEntry
from shared.errors import Overloaded, ServiceError
from shared.reports import ModelReport, ReplicaReport
from shared.schemas.common import Health, Readiness
from shared.schemas.fleet import FleetStatus, ModelOnReplica, Replica, ServiceStatus

START_S = 600.0  # weights may have to be fetched first


class NotReady(Overloaded):
    code = "not_ready"


class _Starting:
    """Whether a new gateway still waits for all services."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.ends = clock() + START_S

    def needs_all(self) -> bool:
        return self._clock() < self.ends


def ops_router(state: GatewayState) -> APIRouter:
    router = APIRouter(tags=["operations"])

    @router.get("/healthz", summary="Does the process answer?", responses=open_responses())
    async def healthz() -> Health:
        return Health()

    starting = _Starting(state.tempo.clock)

    @router.get("/readyz", summary="Is this gateway worth asking?", responses=open_responses(503))
    async def readyz() -> Readiness:
        """Asks every service that keeps a replica, through the data path.

        At first all must answer, for ten minutes at most. From then on one of them is enough: a model that has failed
        must not keep clients from the others.
        """
        asked = list(state.table.kept_services())
        answers = await asyncio.gather(*(_answers(state, service) for service in asked))
        services = [service for service, is_up in zip(asked, answers, strict=True) if is_up]
        silent = [service for service in asked if service not in services]
        if silent and (not services or starting.needs_all()):
            raise NotReady(f"Not ready: no replica answers for {', '.join(silent)}.")
        if not state.table.routes:
            raise NotReady("Not ready: the gateway has no configuration yet.")
        starting.ends = -math.inf
        return Readiness(services=services, silent=silent)

    @router.get(
        "/metrics",
        summary="Prometheus' text format",
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "The figures."},
            **read_responses(403),
        },
    )
    async def metrics(request: Request) -> Response:
        record_of(request.scope).tenant.check_operator()
        reports = await state.board.fresh([service.name for service in state.table.services])
        return Response(state.metrics.render(reports), media_type=CONTENT_TYPE_LATEST)

    @router.get("/v1/fleet", summary="The services and their replicas", responses=read_responses(403))
    async def fleet(request: Request) -> FleetStatus:
        record_of(request.scope).tenant.check_operator()
        services = state.table.services
        reports = await state.board.fresh([service.name for service in services])
        return FleetStatus(services=[_status(state.table, service, reports) for service in services])

    return router


def _status(table: RoutingTable, service: ServiceEntry, reports: Sequence[ReplicaReport]) -> ServiceStatus:
    routes = [route for route in table.routes.values() if route.service == service]
    bounds = service.replicas if isinstance(service, ServiceConfig) else None
    return ServiceStatus(
        name=service.name,
        family=routes[0].family,
        models=[route.model.id for route in routes],
        min_replicas=bounds.min if bounds else None,
        max_replicas=bounds.max if bounds else None,
        replicas=[_replica(report) for report in reports if report.service == service.name],
    )


def _replica(report: ReplicaReport) -> Replica:
    return Replica(replica=report.replica, models=[_model(entry) for entry in report.models])


def _model(entry: ModelReport) -> ModelOnReplica:
    return ModelOnReplica(
        model=entry.model,
        state=entry.state,
        waiting_rows=entry.waiting_rows,
        running_rows=entry.running_rows,
        steps=entry.steps,
        row_steps=entry.row_steps,
        units=entry.units,
        finished_rows=dict(entry.finished),
        first_chunks=sum(entry.first_chunk_seconds.counts),
        first_chunk_seconds=entry.first_chunk_seconds.total,
    )


async def _answers(state: GatewayState, service: str) -> bool:
    try:
        async with asyncio.timeout(state.tempo.ping_timeout_s):
            await state.dispatcher.ping(service)
    except (TimeoutError, ReplicaLost, ServiceError) as error:
        state.log.warning("not_ready", service=service, cause=repr(error))
        return False
    return True
