"""Owns the operations whose answer is a list: scores, embeddings, records, levels, molecules, forecasts ..."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from services.gateway.answer_docs import json_body, list_responses
from services.gateway.calls import Desk, answered_by, json_answer
from services.gateway.items_wire import ItemCounts, ItemSheet, ItemStream, ListEnvelope
from services.gateway.state import GatewayState
from services.gateway.stream_writer import NDJSON
from shared.schemas.embeddings import Embedding, EmbeddingRequest, Embeddings
from shared.schemas.forecasts import Forecast, ForecastRequest, Forecasts
from shared.schemas.items import ItemsCall
from shared.schemas.levels import Level, LevelGenerationRequest, Levels
from shared.schemas.molecules import COLUMNS as MOLECULE_COLUMNS
from shared.schemas.molecules import Molecule, MoleculeGenerationRequest, Molecules
from shared.schemas.music import MusicGenerationRequest, Tune, Tunes
from shared.schemas.reconstructions import Reconstruction, ReconstructionRequest, Reconstructions
from shared.schemas.records import RecordGenerationRequest, RecordRow, Records
from shared.schemas.scores import Score, ScoreRequest, Scores

# Items that a replica sends at once. Reading ten thousand takes a tenth of a second, in which nobody else is served.
MOST_IN_A_MESSAGE = 1000


@dataclass(frozen=True, slots=True)
class Operation:
    """One path: what it takes, the task that answers it, and what an item and the whole answer are.

    `bulky`: items hold pictures. `table`: the fields of an item that a request may have as CSV; none, no CSV.
    """

    path: str
    summary: str
    task: str
    request: type[ItemsCall]
    item: type[BaseModel]
    answer: type[BaseModel]
    bulky: bool = False
    table: tuple[str, ...] = ()


OPERATIONS = (
    Operation("/v1/scores", "Say how likely given things are", "score", ScoreRequest, Score, Scores),
    Operation("/v1/embeddings", "Turn given things into vectors", "embedding", EmbeddingRequest, Embedding, Embeddings),
    Operation(
        "/v1/reconstructions",
        "Show given things as the model sees them",
        "reconstruction",
        ReconstructionRequest,
        Reconstruction,
        Reconstructions,
        bulky=True,
    ),
    Operation(
        "/v1/records/generations",
        "Draw synthetic rows of a table",
        "record",
        RecordGenerationRequest,
        RecordRow,
        Records,
        table=("record",),
    ),
    Operation("/v1/levels/generations", "Draw game levels", "level", LevelGenerationRequest, Level, Levels, bulky=True),
    Operation(
        "/v1/molecules/generations",
        "Draw molecules",
        "molecule",
        MoleculeGenerationRequest,
        Molecule,
        Molecules,
        bulky=True,
        table=MOLECULE_COLUMNS,
    ),
    Operation("/v1/music/generations", "Draw tunes", "music", MusicGenerationRequest, Tune, Tunes, bulky=True),
    Operation("/v1/forecasts", "Say what may follow a series", "forecast", ForecastRequest, Forecast, Forecasts),
)


def items_router(state: GatewayState) -> APIRouter:
    """As the text operations, every body is read by hand."""
    router = APIRouter(tags=["lists"])
    desk = Desk(state)
    for operation in OPERATIONS:
        router.add_api_route(
            operation.path,
            _endpoint(desk, state, operation),
            methods=["POST"],
            name=operation.task,
            summary=operation.summary,
            responses=list_responses(operation.answer, line=operation.item, has_table=bool(operation.table)),
            openapi_extra=json_body(operation.request),
        )
    return router


def _endpoint(desk: Desk, state: GatewayState, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        body, wishes = await desk.read(request, operation.request, limit=state.settings.max_image_body)
        errand = await desk.admit(
            request,
            body,
            wishes,
            model=body.model,
            task=operation.task,
            stream=body.stream,
            is_bulky=operation.bulky or body.rows > MOST_IN_A_MESSAGE,
        )
        created = int(state.tempo.now())
        if body.stream:
            counts = ItemCounts()
            return desk.event_stream(
                errand, lambda model: ItemStream(ListEnvelope(created, model), counts), counts, framing=NDJSON
            )
        sheet = ItemSheet()
        await desk.collect(request, errand, sheet.take, sheet.counts)
        if operation.table and body.wants_table:
            return Response(await asyncio.to_thread(sheet.table, operation.table), media_type="text/csv")
        envelope = ListEnvelope(created, answered_by(request))
        return json_answer(await asyncio.to_thread(sheet.answer, envelope))

    return endpoint
