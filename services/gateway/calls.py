"""Owns the step from an HTTP request to an errand, and from its events to an HTTP response, for every call alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence, Set
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.gateway.bodies import read_body
from services.gateway.carrier import Errand
from services.gateway.disconnects import ClientGone, unless_gone
from services.gateway.headers import Wishes
from services.gateway.problems import CallFailed, failure_of
from services.gateway.record import Record, record_of
from services.gateway.sse import SseWriter
from services.gateway.state import GatewayState
from services.gateway.text_wire import Transcript
from services.gateway.wire import Counts, StreamWire
from shared.calls import Call
from shared.errors import DeadlineExceeded, InternalError, ServiceError
from shared.events import Failed, Finished, ImageDelta, RowEvent, TextDelta
from shared.tracebacks import where

LOADING = b": loading\n\n"
PING = b": ping\n\n"
BodyT = TypeVar("BodyT", bound=BaseModel)


class Desk:
    """Takes requests in and sends answers out."""

    def __init__(self, state: GatewayState) -> None:
        self._state = state

    async def read(
        self, request: Request, model: type[BodyT], *, limit: int | None = None, files: Set[str] = frozenset()
    ) -> tuple[BodyT, Wishes]:
        """The checked body, and what the headers ask for. Raises what `read_body` does.

        `limit` is in bytes, `CASTALIA_MAX_BODY` if None; `files` are the fields that a form may send as files.
        """
        settings = self._state.settings
        wishes = Wishes.of(request.headers, longest_s=settings.timeout_s)
        most = settings.max_body if limit is None else limit
        body = await read_body(request, model, limit=most, timeout_s=wishes.deadline_s, files=files)
        return body, wishes

    def errand(
        self,
        request: Request,
        body: BaseModel,
        wishes: Wishes,
        *,
        model: str,
        task: str,
        stream: bool,
        is_bulky: bool = False,
    ) -> Errand:
        """Route the call. Raises ModelNotFound, UnsupportedTask, or DeadlineExceeded if the body took all the time.

        A bulky answer's pieces are sent one by one as they are encoded: together they may exceed what a message holds.
        """
        state, record = self._state, record_of(request.scope)
        route = state.table.route(model, task)
        record.model = model
        service = route.service.name
        whole_s = wishes.within_s(stream=stream)
        deadline_s = whole_s - (state.tempo.clock() - record.started)
        if deadline_s <= 0:
            raise DeadlineExceeded(f"The request took its whole deadline of {whole_s:g} seconds to arrive.")
        # A plain answer from a loaded model comes in one message. Otherwise `Accepted` must be seen to come in time.
        is_one_message = not stream and not is_bulky and state.board.is_ready(service, model)
        flush_s = 0.0 if is_bulky else state.settings.flush_ms / 1e3
        call = Call(
            request_id=record.request_id,
            model=model,
            task=task,
            body=body,
            tenant=record.tenant,
            priority=wishes.priority,
            deadline_s=deadline_s,
            flush_s=None if is_one_message else flush_s,
        )
        hold_s = None if is_one_message else state.settings.hold_s
        return Errand(service, call, deadline_s, hold_s, partial(state.board.is_ready, service, model))

    async def gather(self, request: Request, errand: Errand, take: Callable[[Sequence[RowEvent]], None]) -> None:
        """Run a plain call to its end, giving its events to `take`. Raises what `Carrier.carry` does, or ClientGone."""

        record = record_of(request.scope)

        async def sink(batch: Sequence[RowEvent]) -> None:
            record.units += _units(batch)
            take(batch)

        await unless_gone(request.receive, self._state.carrier.carry(errand, sink))

    async def transcript(self, request: Request, errand: Errand, *, choices: int) -> Transcript:
        """Run a plain text call to its end; its tokens are counted even if it fails."""
        transcript = Transcript(choices)
        await self.collect(request, errand, transcript.take, transcript.counts)
        return transcript

    async def collect(
        self, request: Request, errand: Errand, take: Callable[[Sequence[RowEvent]], None], counts: Counts
    ) -> None:
        """`gather`, and note what `counts` says in the end, even if the call fails."""
        try:
            await self.gather(request, errand, take)
        finally:
            _count(record_of(request.scope), counts)

    def event_stream(self, errand: Errand, wire: StreamWire, counts: Counts) -> Response:
        return EventStream(self._state, errand, wire, counts)


class EventStream(Response):
    """The response of a streamed call. What fails before the first byte is raised, to be answered with its status."""

    media_type = "text/event-stream"

    def __init__(self, state: GatewayState, errand: Errand, wire: StreamWire, counts: Counts) -> None:
        super().__init__()
        self._state = state
        self._errand = errand
        self._wire = wire
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = record_of(scope)
        writer = SseWriter(send)
        try:
            await unless_gone(receive, self._alive(writer, self._stream(writer, record)))
        except (ServiceError, CallFailed) as error:
            if not writer.started:
                raise
            await self._cut(writer, record, failure_of(error))
        except ClientGone:
            if not writer.finished:  # else it had everything
                raise
        except Exception as error:
            if not writer.started:
                raise
            self._state.log.error("stream_failed", request_id=record.request_id, cause=where(error))
            await self._cut(writer, record, Failed.of(InternalError()))
        finally:
            _count(record, self._counts)

    async def _stream(self, writer: SseWriter, record: Record) -> None:
        async def sink(batch: Sequence[RowEvent]) -> None:
            if any(isinstance(event, ImageDelta) for _, event in batch):  # megabytes: the loop serves others meanwhile
                data = await asyncio.to_thread(self._wire.encode, batch)
            else:
                data = self._wire.encode(batch)
            record.units += _units(batch)
            if record.first_chunk_s is None and any(isinstance(event, TextDelta | ImageDelta) for _, event in batch):
                record.first_chunk_s = self._state.tempo.clock() - record.started
            if data:
                await writer.write(data)

        await self._state.carrier.carry(self._errand, sink)
        await writer.finish(self._wire.last())

    async def _alive(self, writer: SseWriter, work: Coroutine[Any, Any, None]) -> None:
        """Run `work`, with comments while it has nothing to say."""
        comments = asyncio.ensure_future(
            writer.keep_alive(
                first_s=self._state.tempo.header_hold_s, every_s=self._state.settings.ping_s, comment=self._comment
            )
        )
        try:
            await work
        finally:
            comments.cancel()
            await asyncio.gather(comments, return_exceptions=True)

    def _comment(self) -> bytes:
        return PING if self._counts.any_seen or self._errand.is_ready() else LOADING

    async def _cut(self, writer: SseWriter, record: Record, failure: Failed) -> None:
        record.cut = True
        await writer.fail(failure)


def json_answer(body: bytes) -> Response:
    """A whole answer that is written already."""
    return Response(body, media_type="application/json")


def _count(record: Record, counts: Counts) -> None:
    record.prompt_tokens, record.completion_tokens = counts.prompt, counts.completion


def _units(batch: Sequence[RowEvent]) -> float:
    return sum(event.units for _, event in batch if isinstance(event, Finished))
