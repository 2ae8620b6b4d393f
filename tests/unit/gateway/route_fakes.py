"""Fleets with routes, and gateways of them."""

from __future__ import annotations

import copy
from typing import Any

from services.gateway.mirror import COPIES_OF
from services.gateway.tenants import Tenant
from shared.config.models import FleetConfig
from shared.errors import Overloaded
from shared.events import Failed
from shared.reports import ModelState
from tests.unit.gateway.fakes import (
    FakeDispatcher,
    Gateway,
    Script,
    chat,
    make_gateway,
    report,
    speak,
)

CHAT = "/v1/chat/completions"
TOKENIZE = "/tokenize"
DOWN = Failed.of(Overloaded("full"))


def service(name: str, family: str = "transformer", **model: Any) -> dict[str, Any]:
    return {"name": name, "family": family, "models": [{"id": name, "source": f"builtin://{name}", **model}]}


SERVICES = [service("stable", license="MIT"), service("canary"), service("spare"), service("faces", "gan")]


def fleet(*routes: dict[str, Any]) -> FleetConfig:
    return FleetConfig.model_validate({"services": copy.deepcopy(SERVICES), "routes": list(routes)})


def route(*targets: str | tuple[str, float], name: str = "front", **options: Any) -> dict[str, Any]:
    weighed = [(target, 1.0) if isinstance(target, str) else target for target in targets]
    return {"name": name, "targets": [{"model": model, "weight": weight} for model, weight in weighed], **options}


def by_model(**scripts: Script) -> Script:
    """Each model plays its own script; the others speak."""
    return lambda call: scripts.get(call.model, speak)(call)


def gateway_of(*routes: dict[str, Any], default: Script = speak, **states: ModelState) -> Gateway:
    known: dict[str, Any] = {name: [report(name, service=name, state=state)] for name, state in states.items()}
    return make_gateway(FakeDispatcher(default, known=known), fleet=fleet(*routes))


def asked(gateway: Gateway) -> list[str]:
    """The models of the calls so far, copies left out."""
    return [call.model for _, call in gateway.dispatcher.calls if not call.tenant.startswith(COPIES_OF)]


async def ask(gateway: Gateway, **fields: Any) -> Any:
    async with gateway.client() as client:
        return await client.post(CHAT, json=chat(model="front", **fields))


class Everybody:
    """Keys that know one tenant."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant

    def tenant_of(self, authorization: str | None) -> Tenant:
        return self._tenant

    def tenant_named(self, name: str) -> Tenant | None:
        return self._tenant

    async def start(self) -> None:
        """They never change."""

    async def close(self) -> None:
        """They never did."""
