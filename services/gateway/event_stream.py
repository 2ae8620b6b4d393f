"""Owns the response of a streamed call: events to pieces of a stream, comments meanwhile, a cut on failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.gateway.carrier import Errand, Target
from services.gateway.disconnects import ClientGone, unless_gone
from services.gateway.problems import CallFailed, failure_of
from services.gateway.record import Record, record_of
from services.gateway.state import GatewayState
from services.gateway.stream_writer import Framing, StreamWriter
from services.gateway.wire import Counts, StreamWire
from shared.errors import InternalError, ServiceError
from shared.events import AudioDelta, Failed, Finished, ImageDelta, Item, RowEvent, Started, TextDelta, ToolCallDelta
from shared.tracebacks import where

LOADING = b": loading\n\n"
PING = b": ping\n\n"
PIECES = (TextDelta, ToolCallDelta, ImageDelta, AudioDelta, Item)
INLINE_EVENTS = 1000  # more take longer than a millisecond


class EventStream(Response):
    """The response of a streamed call. What fails before the first byte is raised, to be answered with its status."""

    def __init__(
        self,
        state: GatewayState,
        errand: Errand,
        wire: Callable[[str], StreamWire],
        counts: Counts,
        framing: Framing,
    ) -> None:
        super().__init__()
        self._framing = framing
        self._state = state
        self._errand = errand
        self._make_wire = wire
        self._wire = wire(errand.targets[0].call.model)
        self._counts = counts
        self._piece_at = 0.0  # when the last piece came, once one did

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = record_of(scope)
        writer = StreamWriter(send, self._framing)
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
            count_tokens(record, self._counts)

    async def _stream(self, writer: StreamWriter, record: Record) -> None:
        async def sink(batch: Sequence[RowEvent]) -> None:
            data = await self._encoded(batch)
            note_work(record, batch)
            if any(isinstance(event, PIECES) for _, event in batch):
                self._note_piece(record)
            if data:
                await writer.write(data)

        def began(target: Target) -> None:
            record.model = target.call.model
            self._wire = self._make_wire(target.call.model)

        await self._state.carrier.carry(self._errand, sink, began=began)
        await writer.finish(self._wire.last())

    def _note_piece(self, record: Record) -> None:
        now = self._state.tempo.clock()
        if record.first_chunk_s is None:
            record.first_chunk_s = now - record.started
        else:
            self._state.metrics.paused(record.model or "", now - self._piece_at)
        self._piece_at = now

    async def _encoded(self, batch: Sequence[RowEvent]) -> bytes:
        """Megabytes of pictures, and thousands of items, are written while the loop serves others."""
        if len(batch) > INLINE_EVENTS or any(isinstance(event, ImageDelta) for _, event in batch):
            return await asyncio.to_thread(self._wire.encode, batch)
        return self._wire.encode(batch)

    async def _alive(self, writer: StreamWriter, work: Coroutine[Any, Any, None]) -> None:
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

    async def _cut(self, writer: StreamWriter, record: Record, failure: Failed) -> None:
        record.cut = True
        await writer.fail(failure)


def count_tokens(record: Record, counts: Counts) -> None:
    record.prompt_tokens, record.completion_tokens = counts.prompt, counts.completion
    record.cached_tokens = counts.cached


def note_work(record: Record, batch: Sequence[RowEvent]) -> None:
    """Count the units of rows that ended well, the images that are finished, and the longest wait in the queue."""
    for _, event in batch:
        if isinstance(event, Finished):
            record.units += event.units
        elif isinstance(event, Started):
            record.queued_s = max(record.queued_s or 0.0, event.queued_s)
        elif isinstance(event, ImageDelta) and not event.is_preview:
            record.images += 1
