"""Owns what the gateway remembers of one HTTP request for its log line and metrics. Never a prompt, key or body."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import Scope

_KEY = "castalia.record"


@dataclass(slots=True)
class Record:
    """Filled in as the request proceeds. Times are seconds on the gateway's monotonic clock."""

    request_id: str
    method: str
    path: str
    started: float
    retries: int = 0  # how often the client says that it has tried before
    tenant: str = "default"
    model: str | None = None  # set once the model is known to exist, so that it can label a metric
    status: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    units: float = 0.0  # work of the rows that ended well, in the model's own unit
    first_chunk_s: float | None = None
    cut: bool = False  # the stream failed after its first byte


def attach(scope: Scope, record: Record) -> None:
    scope[_KEY] = record


def record_of(scope: Scope) -> Record:
    record: Record = scope[_KEY]
    return record
