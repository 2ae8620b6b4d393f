"""Owns `/openapi.json`: what FastAPI collects, plus the bodies that the gateway reads by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from services.gateway.answer_docs import form_name
from shared.schemas.audio import (
    AudioCompletedEvent,
    AudioDeltaEvent,
    AudioGenerationRequest,
    Sounds,
    SpeechDeltaEvent,
    SpeechDoneEvent,
    SpeechRequest,
)
from shared.schemas.batches import BatchRequest
from shared.schemas.common import ErrorBody
from shared.schemas.embeddings import EmbeddingRequest, Embeddings
from shared.schemas.forecasts import ForecastRequest, Forecasts
from shared.schemas.image_results import CompletedImageEvent, Images, Interpolation, PartialImageEvent
from shared.schemas.images import (
    FILE_FIELDS,
    ImageEditRequest,
    ImageGenerationRequest,
    ImageVariationRequest,
    InterpolationRequest,
)
from shared.schemas.items import ItemsEnd
from shared.schemas.levels import LevelGenerationRequest, Levels
from shared.schemas.molecules import MoleculeGenerationRequest, Molecules
from shared.schemas.music import MusicGenerationRequest, Tunes
from shared.schemas.reconstructions import ReconstructionRequest, Reconstructions
from shared.schemas.records import RecordGenerationRequest, Records
from shared.schemas.response_results import EVENTS, ResponseObject
from shared.schemas.responses import ResponsesRequest
from shared.schemas.scores import ScoreRequest, Scores
from shared.schemas.text import ChatRequest, CompletionRequest, DetokenizeRequest, TokenizeRequest
from shared.schemas.text_results import ChatCompletion, ChatCompletionChunk, Completion, Detokenized, Tokens

REQUESTS: Sequence[type[BaseModel]] = (
    ChatRequest,
    CompletionRequest,
    ResponsesRequest,
    TokenizeRequest,
    DetokenizeRequest,
    ImageGenerationRequest,
    ImageEditRequest,
    ImageVariationRequest,
    InterpolationRequest,
    SpeechRequest,
    AudioGenerationRequest,
    ScoreRequest,
    EmbeddingRequest,
    ReconstructionRequest,
    RecordGenerationRequest,
    LevelGenerationRequest,
    MoleculeGenerationRequest,
    MusicGenerationRequest,
    ForecastRequest,
    BatchRequest,
)
FORMS: Sequence[type[BaseModel]] = (ImageEditRequest, ImageVariationRequest)
# What is referred to by name alone: what models answer, events, lines, failures.
ANSWERS: Sequence[type[BaseModel]] = (
    ChatCompletion,
    ChatCompletionChunk,
    Completion,
    Tokens,
    Detokenized,
    ResponseObject,
    *EVENTS,
    Images,
    Interpolation,
    PartialImageEvent,
    CompletedImageEvent,
    SpeechDeltaEvent,
    SpeechDoneEvent,
    AudioDeltaEvent,
    AudioCompletedEvent,
    Sounds,
    Scores,
    Embeddings,
    Reconstructions,
    Records,
    Levels,
    Molecules,
    Tunes,
    Forecasts,
    ItemsEnd,
    ErrorBody,
)
DESCRIPTION = """Castalia serves every family of generative model. The endpoints speak OpenAI's wire format
where OpenAI has one.

Every error has the body `{"error": {"message", "type", "param", "code"}}`. Request headers: `x-castalia-deadline-ms`
(the time that the whole request may take), `x-castalia-priority` (`interactive`, `default`, `batch`) and
`x-castalia-session` (requests of one session meet the same replica, where the route that is asked for says so). An
answer's header `server-timing: queue;dur=MILLISECONDS` says how long it waited for a place in the running batch; a
stream whose headers left while it waited has none."""


def build_openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    document = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
    _, collected = models_json_schema(
        [*((model, "validation") for model in REQUESTS), *((model, "serialization") for model in ANSWERS)],
        ref_template="#/components/schemas/{model}",
    )
    components = document.setdefault("components", {})
    schemas: dict[str, Any] = components.setdefault("schemas", {})
    schemas.update(collected["$defs"])
    schemas.update({form_name(model): _form(schemas[model.__name__]) for model in FORMS})
    components["securitySchemes"] = {"ApiKey": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"ApiKey": []}, {}]  # {}: a gateway on loopback may need no key
    return document


def _form(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a form with the same fields, whose pictures are files."""
    properties = {
        name: {"type": "string", "format": "binary"} if name in FILE_FIELDS else given
        for name, given in schema["properties"].items()
    }
    return {**schema, "properties": properties, "title": f"{schema['title']}Form"}
