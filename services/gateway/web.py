"""Owns the ASGI application: which routers, which middleware, in which order."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from services.gateway.middleware import Authenticate, Observe
from services.gateway.openapi import build_openapi
from services.gateway.problems import error_body
from services.gateway.routes_images import image_router
from services.gateway.routes_models import models_router
from services.gateway.routes_ops import ops_router
from services.gateway.routes_text import text_router
from services.gateway.state import GatewayState
from shared.errors import MethodNotAllowed, NotFound
from shared.events import Failed


class Api(FastAPI):
    """FastAPI with the gateway's own OpenAPI document."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = build_openapi(self)
        return self.openapi_schema


def build_app(state: GatewayState) -> FastAPI:
    """The whole gateway as an ASGI application."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        yield
        await state.board.close()

    app = Api(title="Castalia", version=version("castalia"), redoc_url=None, redirect_slashes=False, lifespan=lifespan)
    for router in (models_router(state), text_router(state), image_router(state), ops_router(state)):
        app.include_router(router)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_middleware(Authenticate, state=state)
    app.add_middleware(Observe, state=state)  # the last added is the outermost
    return app


async def _no_route(_: Request, error: Exception) -> Response:
    """What starlette's router refuses, in the gateway's words."""
    if not isinstance(error, HTTPException):
        raise error
    headers = dict(error.headers or {})
    refusal = MethodNotAllowed(f"This path answers {headers.get('Allow', 'other methods')} only.")
    failure = Failed.of(refusal if error.status_code == 405 else NotFound("There is nothing at this path."))
    return Response(error_body(failure), failure.status, headers, media_type="application/json")
