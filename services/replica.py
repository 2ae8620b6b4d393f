"""Owns the one Ray Serve deployment for models: what Ray calls, and when. Never sees a tensor."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

import structlog
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from services.families import family_loader
from services.heartbeats import with_heartbeats
from services.logs import configure
from services.model_service import ModelService
from services.sources import resolve
from shared.calls import Call
from shared.config.models import FleetConfig
from shared.config.settings import Settings
from shared.events import RowEvent
from shared.reports import ReplicaReport
from shared.tracing import make_tracer

log = structlog.get_logger(__name__)


def bound_devices(limit: int) -> None:
    """Keep this process to so many bytes of its device, beside other services' replicas."""
    from services.nn.device import bound_device_memory  # noqa: PLC0415 - it imports torch, which takes seconds

    bound_device_memory(limit)


class ModelReplica:
    """One replica of one service. Ray Serve calls `reconfigure` before the first request, and on every change."""

    def __init__(self, service: str) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch reads it when a family imports it; Ray may have set it
        self._name = service
        self._settings = Settings()
        configure(self._settings.log_level)
        log.info("replica_starting", service=service)
        self._service: ModelService | None = None
        self._tracer = make_tracer(
            self._settings, service="castalia-replica", instance=serve.get_replica_context().replica_id.unique_id
        )

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Host what this entry of models.yaml says. The first call returns with the models loaded that fit.

        Raises pydantic.ValidationError, changing nothing; ServiceUnusable if no model of a new replica loads.
        """
        (config,) = FleetConfig.model_validate({"services": [user_config]}).hosted
        if self._service is not None:
            self._service.apply(config)
            return
        if config.resources.gpu_memory is not None:
            await asyncio.to_thread(bound_devices, config.resources.gpu_memory)
        service = ModelService(
            config,
            replica=serve.get_replica_context().replica_id.unique_id,
            hold_s=self._settings.hold_s,
            resolve=partial(resolve, home=self._settings.home),
            loader=family_loader,
            tracer=self._tracer,
        )
        await service.start()
        self._service = service

    async def stream(self, call: Call) -> AsyncGenerator[list[RowEvent], None]:
        """The events of one call, as `shared.events` orders them; see `ModelService.stream`."""
        async with aclosing(with_heartbeats(self._running.stream(call))) as events:
            async for batch in events:
                yield batch

    async def ping(self) -> str:
        return self._name

    async def report(self) -> ReplicaReport:
        return self._running.report()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Ray asks for this some times a second, of a service whose replicas change in number."""
        return {} if self._service is None else self._service.load().as_metrics()

    async def check_health(self) -> None:
        """Raises EngineUnhealthy, and Ray replaces this replica: engine thread dead, step hung, or device failed."""
        if self._service is not None:
            self._service.check_health()

    async def __del__(self) -> None:
        # Ray Serve awaits this once every accepted request has ended, or graceful_shutdown_timeout_s is over.
        if self._service is not None:
            await self._service.stop()
        await asyncio.to_thread(self._tracer.close)

    @property
    def _running(self) -> ModelService:
        if self._service is None:
            raise RuntimeError("a deployment of models needs a user_config")
        return self._service


class NoFront:
    """The way into a model application, as Ray Serve sees it. No route leads to it, so it never has a replica.

    Ray Serve takes the outermost deployment of an application for the one that HTTP reaches, opens an HTTP port for
    each of its replicas, and behind HAProxy lets it have no request router of its own: models are one deployment in.
    """

    def __init__(self, _: DeploymentHandle[object]) -> None:
        """Binding takes the deployment behind it."""

    async def __call__(self, _: Request) -> Response:
        return PlainTextResponse("Models are reached through the gateway.", status_code=404)


Replica = serve.deployment(name="Replica")(ModelReplica)
Front = serve.deployment(
    name="Front",
    autoscaling_config={"min_replicas": 0, "initial_replicas": 0, "max_replicas": 1},
    ray_actor_options={"num_cpus": 0},
)(NoFront)
