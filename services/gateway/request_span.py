"""Owns what the span of a request says in the end, by OpenTelemetry's conventions. Never a prompt, key or body."""

from __future__ import annotations

from services.gateway.record import CLIENT_CLOSED, Record
from shared.tracing import Attributes


def tell(record: Record, route: str) -> None:
    """End the request's span. `route` is the path's pattern, empty where there is none."""
    span = record.span
    if span.is_recorded:
        span.rename(f"{record.method} {route}".strip())
        span.note(_attributes(record, route))
        if record.status == CLIENT_CLOSED:
            span.fail("client_closed")
        elif record.status >= 500 or record.cut:
            span.fail(record.refusal or str(record.status))
    span.end()


def _attributes(record: Record, route: str) -> Attributes:
    """What is not known, or is of no meaning for this request, is left out."""
    said = {
        "http.route": route,
        "http.response.status_code": record.status,
        "castalia.tenant": record.tenant.name,
        "castalia.units": record.units,
        "castalia.queue_seconds": record.queued_s,
        "gen_ai.response.model": record.model,
        "gen_ai.response.time_to_first_chunk": record.first_chunk_s,
        "gen_ai.usage.input_tokens": record.prompt_tokens,
        "gen_ai.usage.output_tokens": record.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": record.cached_tokens,
    }
    return {name: value for name, value in said.items() if value}
