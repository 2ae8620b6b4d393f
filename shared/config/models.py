"""Owns models.yaml: the only list of services and models."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

from pydantic import Field, model_validator

from shared.config.base import ConfigModel
from shared.config.diffusion import DiffusionService
from shared.config.gan import GanService
from shared.config.transformer import TransformerService

AnyService = Annotated[TransformerService | DiffusionService | GanService, Field(discriminator="family")]

RESERVED_NAMES = frozenset({"gateway"})


class FleetConfig(ConfigModel):
    """The whole fleet: what models.yaml holds."""

    services: tuple[AnyService, ...] = Field(min_length=1)

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
