"""Owns models.yaml: the only list of services, models and routes."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

from pydantic import Field, model_validator

from shared.config.autoregressive import AutoregressiveService
from shared.config.base import ConfigModel
from shared.config.boltzmann import BoltzmannService
from shared.config.diffusion import DiffusionService
from shared.config.ebm import EbmService
from shared.config.flow import FlowService
from shared.config.gan import GanService
from shared.config.neural_ode import NeuralOdeService
from shared.config.pixelcnn import PixelCnnService
from shared.config.plugin import PluginService
from shared.config.recurrent import RecurrentService
from shared.config.routes import RouteConfig, check_routes
from shared.config.transformer import TransformerService
from shared.config.upstream import UpstreamService
from shared.config.vae import VaeService
from shared.config.vits import VitsService

HostedService = (
    TransformerService
    | AutoregressiveService
    | BoltzmannService
    | DiffusionService
    | EbmService
    | FlowService
    | GanService
    | NeuralOdeService
    | PixelCnnService
    | PluginService
    | RecurrentService
    | VaeService
    | VitsService
)  # those that run here
AnyService = Annotated[HostedService | UpstreamService, Field(discriminator="family")]

RESERVED_NAMES = frozenset({"gateway"})


class FleetConfig(ConfigModel):
    """The whole fleet: what models.yaml holds."""

    services: tuple[AnyService, ...] = Field(min_length=1)
    routes: tuple[RouteConfig, ...] = ()

    @property
    def hosted(self) -> tuple[HostedService, ...]:
        return tuple(service for service in self.services if not isinstance(service, UpstreamService))

    @property
    def upstreams(self) -> tuple[UpstreamService, ...]:
        return tuple(service for service in self.services if isinstance(service, UpstreamService))

    @property
    def sources(self) -> dict[str, str]:
        """Where the weights of the models that run here come from, by model id."""
        return {model.id: model.weights for service in self.hosted for model in service.models}

    @model_validator(mode="after")
    def _unique(self) -> FleetConfig:
        names = Counter(service.name for service in self.services)
        ids = Counter(model.id for service in self.services for model in service.models)
        for kind, counts in (("service name", names), ("model id", ids)):
            twice = [key for key, count in counts.items() if count > 1]
            if twice:
                raise ValueError(f"{kind} used more than once: {', '.join(twice)}")
        if taken := RESERVED_NAMES & names.keys():
            raise ValueError(f"service name is reserved: {', '.join(taken)}")
        return self

    @model_validator(mode="after")
    def _routes_lead_somewhere(self) -> FleetConfig:
        check_routes(self.routes, {model.id: model for service in self.services for model in service.models})
        return self
