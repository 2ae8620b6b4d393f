"""Owns the gateway as a Ray Serve deployment: its configuration's way in. Everything else is in `web`."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from ray import serve

from services.gateway.logs import make_log
from services.gateway.serve_dispatch import ServeDispatcher
from services.gateway.state import GatewayState
from services.gateway.web import build_app
from shared.config.models import FleetConfig
from shared.config.settings import Settings


class GatewayReplica:
    """The one deployment that HTTP reaches. Settings come from the environment, routes from `reconfigure`."""

    def __init__(self) -> None:
        """Raises UnprotectedHost or KeyFileError, and then does not start."""
        settings = Settings()
        self._state = GatewayState.make(settings, ServeDispatcher(), make_log(settings.log_level))

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take over `{"services": [...]}` as models.yaml holds it: whole, or not at all if it is not valid."""
        self._state.configure(FleetConfig.model_validate(user_config))

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Ray calls this in the replica's process, so that the application never travels."""
        return build_app(self._state)


Gateway = serve.deployment(name="Gateway")(serve.ingress()(GatewayReplica))
