"""Owns the gateway as a Ray Serve deployment: its configuration's way in. Everything else is in `web`."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.exceptions import RayServeException

from services.gateway.fleet_dispatch import FleetDispatcher
from services.gateway.logs import make_log
from services.gateway.serve_dispatch import ServeDispatcher
from services.gateway.state import GatewayState
from services.gateway.upstreams import UpstreamDispatcher
from services.gateway.web import build_app
from shared.config.models import FleetConfig
from shared.config.settings import Settings


class GatewayReplica:
    """The one deployment that HTTP reaches. Settings come from the environment, routes from `reconfigure`."""

    def __init__(self) -> None:
        """Raises KeyFileError or StoreError, and then does not start."""
        settings = Settings()
        log = make_log(settings.log_level)
        self._dispatcher = FleetDispatcher(ServeDispatcher(), UpstreamDispatcher(log))
        self._state = GatewayState.make(settings, self._dispatcher, log, gateway=_own_name())

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take over `{"services": [...]}` as models.yaml holds it: whole, or not at all if it is not valid."""
        fleet = FleetConfig.model_validate(user_config)
        self._dispatcher.configure(fleet)
        self._state.configure(fleet)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Ray calls this in the replica's process, so that the application never travels."""
        return build_app(self._state)


def _own_name() -> str:
    """The replica's, by which Ray knows this process; outside of Ray Serve there is none but the process's number."""
    try:
        return serve.get_replica_context().replica_id.unique_id
    except RayServeException:
        return str(os.getpid())


Gateway = serve.deployment(name="Gateway")(serve.ingress()(GatewayReplica))
