"""Owns the operation of the Responses API: a chat, asked and answered in its words."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace

from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope, Send

from services.gateway.answer_docs import event_responses, json_body
from services.gateway.calls import Desk, answered_by, json_answer
from services.gateway.responses_chat import FieldNames, as_chat
from services.gateway.responses_output import Output
from services.gateway.responses_wire import Draft, ResponseStream, response
from services.gateway.state import GatewayState
from services.gateway.stream_writer import SSE
from shared.events import Failed
from shared.schemas.response_results import EVENTS, ResponseObject
from shared.schemas.responses import ResponsesRequest

INLINE_PARTS = 64  # of more items and functions a chat is made in a thread: the other requests share the time


def responses_router(state: GatewayState) -> APIRouter:
    """As the text operations, its body is read by hand."""
    router = APIRouter(tags=["text"])
    desk = Desk(state)

    @router.post(
        "/v1/responses",
        summary="Answer input items",
        responses=event_responses(ResponseObject, EVENTS),
        openapi_extra=json_body(ResponsesRequest),
    )
    async def responses(request: Request) -> Response:
        body, wishes = await desk.read(request, ResponsesRequest)
        chat, names = as_chat(body) if _parts(body) <= INLINE_PARTS else await asyncio.to_thread(as_chat, body)
        draft = Draft(secrets.token_hex(24), int(state.tempo.now()), body)
        output = Output(draft.token)
        with names.kept():
            errand = await desk.admit(request, chat, wishes, model=body.model, task="chat", stream=body.stream)
            if not body.stream:
                await desk.collect(request, errand, output.take, output.counts)
                return json_answer(response(draft, answered_by(request), output))
        stream = ResponseStream(draft, output)

        def failed(failure: Failed) -> bytes:
            return stream.failed(names.told(failure))

        framing = replace(SSE, done=b"", failed=failed)
        return _Named(desk.event_stream(errand, stream.by, output.counts, framing=framing), names)

    return router


def _parts(body: ResponsesRequest) -> int:
    return (0 if isinstance(body.input, str) else len(body.input)) + len(body.tools or ())


class _Named(Response):
    """A streamed answer whose refusals name the request's own fields."""

    def __init__(self, answer: Response, names: FieldNames) -> None:
        super().__init__()
        self._answer = answer
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._names.kept():
            await self._answer(scope, receive, send)
