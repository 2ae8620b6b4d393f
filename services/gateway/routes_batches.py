"""Owns `/v1/batches`: begin, read, list and cancel batches. Running them is `batches`' business."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request

from services.gateway.answer_docs import call_responses, json_body, path_parameter, read_responses
from services.gateway.batches.book import BATCH_ID, BatchBook
from services.gateway.calls import Desk
from services.gateway.queries import query_parameters, read_query
from services.gateway.record import record_of
from services.gateway.state import GatewayState
from services.gateway.store_guard import needing_store
from shared.errors import NotFound
from shared.schemas.batches import BatchList, BatchObject, BatchQuery, BatchRequest

_PARAMETER = path_parameter("batch_id")


def batches_router(state: GatewayState, wake: Callable[[], None]) -> APIRouter:
    """`wake` tells this gateway's runner that there is something new."""
    router = APIRouter(tags=["batches"])
    desk = Desk(state)
    book = BatchBook(state.store, now=state.tempo.now)

    @router.post(
        "/v1/batches",
        summary="Run a file of requests",
        responses=call_responses(BatchObject),
        openapi_extra=json_body(BatchRequest),
    )
    async def create(request: Request) -> BatchObject:
        body, _ = await desk.read(request, BatchRequest)
        with needing_store(state.log):
            batch = await book.create(_tenant(request), body)
        wake()
        return batch.shown()

    @router.get(
        "/v1/batches",
        summary="The batches, newest first",
        responses=read_responses(400, 503),
        openapi_extra={"parameters": query_parameters(BatchQuery)},
    )
    async def list_batches(request: Request) -> BatchList:
        query = read_query(request, BatchQuery)
        with needing_store(state.log):
            found, has_more = await book.page(_tenant(request), query)
        data = [batch.shown() for batch in found]
        ends = (data[0].id, data[-1].id) if data else (None, None)
        return BatchList(data=data, first_id=ends[0], last_id=ends[1], has_more=has_more)

    @router.get(
        "/v1/batches/{batch_id}",
        summary="One batch, and how far it is",
        responses=read_responses(404, 503),
        openapi_extra=_PARAMETER,
    )
    async def get_batch(request: Request) -> BatchObject:
        with needing_store(state.log):
            return (await book.find(_tenant(request), _batch_id(request))).shown()

    @router.post(
        "/v1/batches/{batch_id}/cancel",
        summary="End a batch with what it has",
        responses=read_responses(404, 409, 503),
        openapi_extra=_PARAMETER,
    )
    async def cancel(request: Request) -> BatchObject:
        with needing_store(state.log):
            batch = await book.cancel(_tenant(request), _batch_id(request))
        wake()
        return batch.shown()

    return router


def _tenant(request: Request) -> str:
    return record_of(request.scope).tenant.name


def _batch_id(request: Request) -> str:
    """Raises NotFound for what can be none, before a store is asked."""
    batch_id = request.path_params["batch_id"]
    if BATCH_ID.fullmatch(batch_id) is None:
        raise NotFound("There is no such batch.", param="batch_id")
    return batch_id
