"""Owns the ASGI application: which routers, which middleware, in which order."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from services.gateway.batches.assembly import make_files, make_runner
from services.gateway.fixed import FixedAnswer
from services.gateway.middleware import OPEN_PATHS, Authenticate, Observe
from services.gateway.openapi import build_openapi
from services.gateway.problems import error_body
from services.gateway.routes_audio import audio_router
from services.gateway.routes_batches import batches_router
from services.gateway.routes_files import files_router
from services.gateway.routes_images import image_router
from services.gateway.routes_items import items_router
from services.gateway.routes_models import models_router
from services.gateway.routes_ops import ops_router
from services.gateway.routes_pages import Pages, load_pages, pages_router
from services.gateway.routes_responses import responses_router
from services.gateway.routes_text import text_router
from services.gateway.routes_usage import usage_router
from services.gateway.state import GatewayState
from shared.errors import MethodNotAllowed, NotFound
from shared.events import Failed


class Api(FastAPI):
    """FastAPI with the gateway's own OpenAPI document."""

    _document: FixedAnswer | None = None

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = build_openapi(self)
        return self.openapi_schema

    def setup(self) -> None:
        """Ahead of FastAPI's own route to the document, which would not compress it to a tenth."""
        assert self.openapi_url is not None
        self.add_route(self.openapi_url, self._describe, include_in_schema=False)
        super().setup()

    async def _describe(self, request: Request) -> Response:
        if self._document is None:
            text = json.dumps(self.openapi(), separators=(",", ":"))
            self._document = FixedAnswer.of(text.encode(), "application/json")
        return self._document.to(request)


def build_app(state: GatewayState, pages: Pages | None = None) -> FastAPI:
    """The whole gateway as an ASGI application. The pages are loaded unless they are given."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        await state.start()
        runner.start()
        try:
            yield
        finally:
            await runner.close()
            await state.close()

    app = Api(title="Castalia", version=version("castalia"), redoc_url=None, redirect_slashes=False, lifespan=lifespan)
    files = make_files(state)
    pages = load_pages() if pages is None else pages
    runner = make_runner(app, state, files)
    routers = (
        models_router(state),
        text_router(state),
        responses_router(state),
        image_router(state),
        audio_router(state),
        items_router(state),
        files_router(state, files),
        batches_router(state, runner.wake),
        usage_router(state),
        ops_router(state),
        pages_router(pages),
    )
    # Included, FastAPI would make each route once more, with its first request.
    app.router.routes += [route for router in routers for route in router.routes]
    routes = [route for route in app.routes if isinstance(route, Route)]
    app.add_exception_handler(HTTPException, partial(_no_route, routes))
    app.add_middleware(Authenticate, state=state, open_paths=OPEN_PATHS | pages.keys())
    app.add_middleware(Observe, state=state)  # the last added is the outermost
    return app


async def _no_route(routes: Sequence[Route], request: Request, error: Exception) -> Response:
    """What starlette's router refuses, in the gateway's words."""
    if not isinstance(error, HTTPException):
        raise error
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = _methods(routes, request.scope["path"])
    refusal = MethodNotAllowed(f"This path answers {headers.get('Allow', 'other methods')} only.")
    failure = Failed.of(refusal if error.status_code == 405 else NotFound("There is nothing at this path."))
    return Response(error_body(failure), failure.status, headers, media_type="application/json")


def _methods(routes: Sequence[Route], path: str) -> str:
    """All that a path answers. The router names those of the first route alone that has this path."""
    here = [route for route in routes if route.path_regex.match(path)]
    return ", ".join(sorted({method for route in here for method in route.methods or ()}))
