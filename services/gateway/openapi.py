"""Owns `/openapi.json`: what FastAPI collects, plus the bodies that the gateway reads by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from shared.schemas.text import ChatRequest, CompletionRequest, DetokenizeRequest, TokenizeRequest
from shared.schemas.text_results import ChatCompletionChunk

REQUESTS: Sequence[type[BaseModel]] = (ChatRequest, CompletionRequest, TokenizeRequest, DetokenizeRequest)
EVENTS: Sequence[type[BaseModel]] = (ChatCompletionChunk,)
DESCRIPTION = """Castalia serves every family of generative model. The text endpoints speak OpenAI's wire format.

Every error has the body `{"error": {"message", "type", "param", "code"}}`. Request headers: `x-castalia-deadline-ms`
(the time that the whole request may take) and `x-castalia-priority` (`interactive`, `default`, `batch`)."""


def build_openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    document = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
    _, collected = models_json_schema(
        [*((model, "validation") for model in REQUESTS), *((model, "serialization") for model in EVENTS)],
        ref_template="#/components/schemas/{model}",
    )
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(collected["$defs"])
    components["securitySchemes"] = {"ApiKey": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"ApiKey": []}, {}]  # {}: a gateway on loopback may need no key
    return document
