"""Owns the span around each try of a call at a service, wherever that runs. Never sees HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from services.gateway.dispatcher import Dispatcher
from shared.calls import Call
from shared.events import Failed, RowEvent
from shared.reports import ReplicaReport
from shared.tracing import Kind, Tracer, about_call, error_name, operation_of


class TracedDispatcher:
    """A `Dispatcher` that tells of another's calls, and passes all else through."""

    def __init__(self, dispatcher: Dispatcher, tracer: Tracer) -> None:
        self._dispatcher = dispatcher
        self._tracer = tracer

    async def stream(self, service: str, call: Call) -> AsyncGenerator[list[RowEvent], None]:
        """See `Dispatcher.stream`."""
        attributes = {**about_call(call.task, call.model), "castalia.service": service}
        name = f"{operation_of(call.task)} {call.model}"
        span = self._tracer.start(name, Kind.CLIENT, parent=call.traceparent, attributes=attributes)
        try:
            inner = self._dispatcher.stream(service, replace(call, traceparent=span.traceparent))
            async with aclosing(inner) as batches:
                async for batch in batches:
                    for _, event in batch:
                        if isinstance(event, Failed):
                            span.fail(event.code or event.type)
                    yield batch
        except Exception as error:
            span.fail(error_name(error))
            raise
        finally:
            span.end()

    async def ping(self, service: str) -> None:
        await self._dispatcher.ping(service)

    async def reports(self, service: str) -> Sequence[ReplicaReport]:
        return await self._dispatcher.reports(service)

    async def close(self) -> None:
        await self._dispatcher.close()
