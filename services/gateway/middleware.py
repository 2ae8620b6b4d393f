"""Owns what happens around every request: id, keys, headers, failures, the log line, metrics. Pure ASGI.

Never sees a body.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Set

from fastapi.routing import APIRoute
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.disconnects import ClientGone
from services.gateway.headers import retries_so_far
from services.gateway.problems import CallFailed, error_body, error_headers, failure_of
from services.gateway.record import CLIENT_CLOSED, Record, attach, caller_of, record_of
from services.gateway.request_span import tell
from services.gateway.state import GatewayState
from shared.errors import InternalError, RateLimited, ServiceError
from shared.events import Failed
from shared.tracebacks import where
from shared.tracing import NO_SPAN, Kind, Span

API_VERSION = "2020-10-01"
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/docs", "/docs/oauth2-redirect", "/openapi.json"})

UNTRACED = OPEN_PATHS | {"/metrics"}  # probes


class Observe:
    """Gives a request its id, answers its failures, and writes its one log line, whatever happened."""

    def __init__(self, app: ASGIApp, *, state: GatewayState) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        record = Record(
            request_id=f"req_{secrets.token_hex(16)}",
            method=scope["method"],
            path=scope["path"],
            started=self._state.tempo.clock(),
            retries=retries_so_far(headers),
        )
        record.span = self._start_span(record, headers)
        attach(scope, record)
        answer = _Answer(self._state, record, send)
        self._state.metrics.in_flight.inc()
        try:
            await self._run(scope, receive, answer)
        except asyncio.CancelledError:  # the server gave the request up, because its client went away
            record.status = CLIENT_CLOSED
            raise
        finally:
            self._state.metrics.in_flight.dec()
            self._note(scope, record)
            tell(record, _route_of(scope))
            self._state.usage.add(record)
            if record.charge is not None:
                await asyncio.shield(record.settle())

    def _start_span(self, record: Record, headers: Headers) -> Span:
        if record.path in UNTRACED:
            return NO_SPAN
        about = {"http.request.method": record.method, "castalia.request_id": record.request_id}
        return self._state.tracer.start(record.method, Kind.SERVER, parent=headers.get("traceparent"), attributes=about)

    async def _run(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        try:
            await self._app(scope, receive, answer.send)
        except (ServiceError, CallFailed) as error:
            if isinstance(error, RateLimited):
                answer.record.limit_headers = error.headers
            await answer.refuse(failure_of(error))
        except ClientGone:
            answer.record.status = CLIENT_CLOSED
        except Exception as error:
            self._state.log.error("request_failed", request_id=answer.record.request_id, cause=where(error))
            await answer.refuse(Failed.of(InternalError()))

    def _note(self, scope: Scope, record: Record) -> None:
        seconds = self._state.tempo.clock() - record.started
        self._state.metrics.observe(record, route=_route_of(scope), seconds=seconds)
        self._state.log.info(
            "request",
            request_id=record.request_id,
            method=record.method,
            path=record.path[:256],
            status=record.status,
            ms=round(seconds * 1e3, 1),
            tenant=record.tenant.name,
            model=record.model,
            prompt_tokens=record.prompt_tokens,
            completion_tokens=record.completion_tokens,
            units=record.units,
            queued_ms=_ms(record.queued_s),
            first_chunk_ms=_ms(record.first_chunk_s),
            cut=record.cut,
        )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 1)


class _Answer:
    """The way out: adds the headers that every response has."""

    def __init__(self, state: GatewayState, record: Record, send: Send) -> None:
        self.record = record
        self._state = state
        self._send = send
        self._started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            self.record.status = message["status"]
            elapsed_s = self._state.tempo.clock() - self.record.started
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.record.request_id
            headers["openai-version"] = API_VERSION
            headers["openai-processing-ms"] = str(int(elapsed_s * 1e3))
            if self.record.queued_s is not None:
                headers["server-timing"] = f"queue;dur={self.record.queued_s * 1e3:.1f}"
            headers.update(self.record.limit_headers)
        elif self.record.charge is not None and not message.get("more_body", False):
            await asyncio.shield(self.record.settle())  # its place is free before its client can ask again
        await self._send(message)

    async def refuse(self, failure: Failed) -> None:
        """Answer with an error; of a response that has begun, only the rest can be left out."""
        if self._started:
            self.record.cut = True
            return
        self.record.refusal = failure.code
        extra = error_headers(failure, retries=self.record.retries, rng=self._state.rng)
        headers = {"content-type": "application/json", **extra}
        if failure.status == 401:
            headers["www-authenticate"] = "Bearer"
        body = error_body(failure)
        raw = [(key.encode(), value.encode()) for key, value in headers.items()]
        raw.append((b"content-length", str(len(body)).encode()))
        await self.send({"type": "http.response.start", "status": failure.status, "headers": raw})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


class Authenticate:
    """Lets in those who hold a key, where keys are required: everywhere but at the open paths, `/metrics` included."""

    def __init__(self, app: ASGIApp, *, state: GatewayState, open_paths: Set[str]) -> None:
        self._app = app
        self._state = state
        self._open = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._open:
            record, caller = record_of(scope), caller_of(scope)
            if caller is not None:
                record.tenant, record.is_batch_line = caller, True
            else:
                record.tenant = self._state.keys.tenant_of(Headers(scope=scope).get("authorization"))
        await self._app(scope, receive, send)


def _route_of(scope: Scope) -> str:
    """The route's pattern, which is bounded, never the path, which is the client's."""
    route: object = scope.get("route")
    return route.path if isinstance(route, APIRoute) else ""
