"""Owns `/v1/models`: what the configuration says of models and routes, what replicas last reported, and cards."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from fastapi import APIRouter, Request

from services.gateway.answer_docs import path_parameter, read_responses
from services.gateway.board import BEST_FIRST
from services.gateway.cards import read_card
from services.gateway.record import record_of
from services.gateway.routing import Fork, Route
from services.gateway.state import GatewayState
from shared.errors import ModelNotFound
from shared.schemas.common import ModelCard, ModelList
from shared.schemas.fleet import CardDocument

OWNER = "castalia"
REPORT_WAIT_S = 0.5
UNKNOWN_REVISION = "unknown"  # until the model has been loaded once


def models_router(state: GatewayState) -> APIRouter:
    router = APIRouter(tags=["models"])

    @router.get("/v1/models", summary="All models", responses=read_responses())
    async def list_models(request: Request) -> ModelList:
        """Those that the key may ask for."""
        table, tenant = state.table, record_of(request.scope).tenant
        await state.board.refresh([service.name for service in table.services], wait_s=REPORT_WAIT_S)
        names = [name for name in (*table.routes, *table.forks) if tenant.may_use(name)]
        return ModelList(data=[_card(state, table.find(name)) for name in names])

    # `:path`, because a model's id may hold slashes.
    @router.get(
        "/v1/models/{model_id:path}",
        summary="One model",
        responses=read_responses(404),
        openapi_extra={
            "parameters": [{"name": "model_id", "in": "path", "required": True, "schema": {"type": "string"}}]
        },
    )
    async def get_model(request: Request) -> ModelCard:
        name = request.path_params["model_id"]
        found = state.table.find(name)
        if not record_of(request.scope).tenant.may_use(name):
            raise ModelNotFound(name)
        services = {route.service.name for route in (found.targets if isinstance(found, Fork) else (found,))}
        await state.board.refresh([*services], wait_s=REPORT_WAIT_S)
        return _card(state, found)

    @router.get(
        "/v1/cards/{model_id:path}",
        summary="What a built-in model was trained on, and how good it is",
        responses=read_responses(404),
        openapi_extra=path_parameter("model_id"),
    )
    async def get_document(request: Request) -> CardDocument:
        name = request.path_params["model_id"]
        found = state.table.find(name)
        if isinstance(found, Fork) or not record_of(request.scope).tenant.may_use(name):
            raise ModelNotFound(name)
        return await asyncio.to_thread(read_card, found.model)

    return router


def _card(state: GatewayState, found: Route | Fork) -> ModelCard:
    return _card_of_fork(state, found) if isinstance(found, Fork) else _card_of_model(state, found)


def _card_of_model(state: GatewayState, route: Route) -> ModelCard:
    model = route.model
    report = state.board.last_known(model.id)
    return ModelCard(
        id=model.id,
        created=route.created,
        owned_by=OWNER,
        family=route.family,
        tasks=list(model.does),
        modalities=list(model.MODALITIES),
        limits=dict(report.limits) if report else {},
        license=model.license,
        revision=report.revision if report else UNKNOWN_REVISION,
        state=state.board.state(route.service.name, model.id),
        base=model.based_on,
    )


def _card_of_fork(state: GatewayState, fork: Fork) -> ModelCard:
    """A route can do what all its targets can, within the narrowest of their limits; one that is ready makes it so."""
    cards = [_card_of_model(state, route) for route in fork.targets]
    first, *others = cards
    return ModelCard(
        id=fork.config.name,
        created=fork.created,
        owned_by=OWNER,
        family=_joined(card.family for card in cards),
        tasks=list(fork.tasks),
        modalities=list(dict.fromkeys(modality for card in cards for modality in card.modalities)),
        limits={
            name: min(card.limits[name] for card in cards)
            for name in first.limits
            if all(name in card.limits for card in others)
        },
        license=_joined(card.license for card in cards),
        revision=_joined(card.revision for card in cards),
        state=next(state for state in BEST_FIRST if any(card.state == state for card in cards)),
        targets=[card.id for card in cards],
    )


def _joined(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(texts))
