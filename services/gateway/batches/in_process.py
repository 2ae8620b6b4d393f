"""Owns asking the gateway's own application, without a socket: one request of a tenant, and its whole answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Scope

from services.gateway.headers import PRIORITY_HEADER
from services.gateway.record import Record, as_caller, record_of
from services.gateway.tenants import Tenant
from shared.calls import Priority


@dataclass(frozen=True, slots=True)
class Answer:
    """`record` says what the request used. `retry_after` is in seconds; None if it asks for no other try."""

    status: int
    body: bytes
    retry_after: float | None
    record: Record


async def ask(app: ASGIApp, tenant: Tenant, path: str, body: bytes) -> Answer:
    """POST a JSON body at priority `batch`. Cancelling ends the request as a client that goes away does."""
    scope = _scope(path, len(body))
    as_caller(scope, tenant)
    unread = [body]
    said: list[Message] = []

    async def receive() -> Message:
        if not unread:
            await asyncio.Event().wait()  # nobody hangs up: whoever waits for it is cancelled in the end
        return {"type": "http.request", "body": unread.pop(), "more_body": False}

    async def send(message: Message) -> None:
        said.append(message)

    await app(scope, receive, send)
    start, *pieces = said
    retry_after = Headers(raw=start["headers"]).get("retry-after")
    return Answer(
        status=start["status"],
        body=b"".join(piece.get("body", b"") for piece in pieces),
        retry_after=None if retry_after is None else float(retry_after),
        record=record_of(scope),
    )


def _scope(path: str, length: int) -> Scope:
    headers = {
        "content-type": "application/json",
        "content-length": str(length),
        PRIORITY_HEADER: Priority.BATCH.name.lower(),
    }
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": None,
        "server": None,
    }
