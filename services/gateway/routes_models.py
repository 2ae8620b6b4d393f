"""Owns `/v1/models`: what the configuration says of each model, and what the replicas last reported."""

from __future__ import annotations

from fastapi import APIRouter, Request

from services.gateway.responses import read_responses
from services.gateway.routing import Route
from services.gateway.state import GatewayState
from shared.schemas.common import ModelCard, ModelList

OWNER = "castalia"
REPORT_WAIT_S = 0.5
UNKNOWN_REVISION = "unknown"  # until the model has been loaded once


def models_router(state: GatewayState) -> APIRouter:
    router = APIRouter(tags=["models"])

    @router.get("/v1/models", summary="All models", responses=read_responses())
    async def list_models() -> ModelList:
        await state.board.refresh([service.name for service in state.table.services], wait_s=REPORT_WAIT_S)
        return ModelList(data=[_card(state, route) for route in state.table.routes.values()])

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
        route = state.table.find(request.path_params["model_id"])
        await state.board.refresh([route.service.name], wait_s=REPORT_WAIT_S)
        return _card(state, route)

    return router


def _card(state: GatewayState, route: Route) -> ModelCard:
    model = route.model
    report = state.board.last_known(model.id)
    return ModelCard(
        id=model.id,
        created=route.created,
        owned_by=OWNER,
        family=route.family,
        tasks=list(model.TASKS),
        modalities=list(model.MODALITIES),
        limits=dict(report.limits) if report else {},
        license=model.license,
        revision=report.revision if report else UNKNOWN_REVISION,
        state=state.board.state(route.service.name, model.id),
    )
