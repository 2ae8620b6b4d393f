"""Owns the documentation of what operations answer: the statuses, headers and media types in `/openapi.json`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from services.gateway.forms import FORM
from shared.schemas.common import ErrorBody

Responses = dict[int | str, dict[str, Any]]
NDJSON_TYPE = "application/x-ndjson"
AUDIO_TYPES = ("audio/mpeg", "audio/ogg", "audio/aac", "audio/flac", "audio/wav", "audio/pcm")

_ERRORS = {
    400: "The request is not valid: `param` names the field, `code` says why.",
    401: "`invalid_api_key`",
    403: "`model_not_allowed`, `priority_not_allowed` or `operator_only`",
    404: "`model_not_found` or `not_found`",
    405: "`method_not_allowed`; the header `Allow` lists the methods.",
    409: "`conflict`: what is there does not allow it.",
    413: "`request_too_large` or `storage_exhausted`",
    415: "`unsupported_media_type`: the body must be of a type that the operation takes, and not compressed.",
    429: "`rate_limit_exceeded` or `insufficient_quota`, with `Retry-After`",
    500: "`internal_error`: the header `x-request-id` finds the cause in the server's log.",
    503: "`server_is_overloaded`, `model_loading`, `upstream_failed` or `store_unavailable`, with `Retry-After`",
    504: "`deadline_exceeded`",
}
_CALL = (400, 401, 403, 404, 405, 413, 415, 429, 500, 503, 504)
_READ = (401, 405, 500)


def call_responses(result: type[BaseModel], *, chunk: type[BaseModel] | tuple[type[BaseModel], ...] = ()) -> Responses:
    """Those of an operation that runs a model; `chunk` is the data of an event where it can stream."""
    content = _json(result)
    chunks = chunk if isinstance(chunk, tuple) else (chunk,)
    if chunks:
        names = " or a ".join(f"`{each.__name__}`" for each in chunks)
        text = (
            f"With `stream: true`: events whose data is a {names}, then `data: [DONE]`. A failure on the "
            "way is an event whose data is an `ErrorBody`, after which the connection is cut without `[DONE]`."
        )
        # No type: some readers hold such a schema against the whole body, others against each event.
        content["text/event-stream"] = {"schema": {"description": text}}
    answer = {"description": "The answer, complete or as server-sent events.", "content": content}
    return {200: answer, **errors(*_CALL)}


def event_responses(result: type[BaseModel], events: tuple[type[BaseModel], ...]) -> Responses:
    """Those of an operation that runs a model; its stream has named events, each of a type that says which it is."""
    names = ", ".join(f"`{each.__name__}`" for each in events)
    text = (
        f"With `stream: true`: events by name, whose data is one of {names}. The last is `response.completed` or "
        "`response.incomplete`; after a failure on the way `response.failed` and `error`, and the connection is cut."
    )
    content = {**_json(result), "text/event-stream": {"schema": {"description": text}}}
    whole = {"description": "The answer, complete or as server-sent events.", "content": content}
    return {200: whole, **errors(*_CALL)}


def file_responses(chunk: tuple[type[BaseModel], ...]) -> Responses:
    """Those of an operation that answers a file of sound as it is made; `chunk` is the data of an event."""
    names = " or a ".join(f"`{each.__name__}`" for each in chunk)
    text = (
        f"With `stream_format: sse`: events whose data is a {names}, then `data: [DONE]`. A failure on the way is an "
        "event whose data is an `ErrorBody`, after which the connection is cut; of a file it is cut alone."
    )
    content: dict[str, Any] = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in AUDIO_TYPES}
    content["text/event-stream"] = {"schema": {"description": text}}
    return {200: {"description": "The file, sent as it is made.", "content": content}, **errors(*_CALL)}


def list_responses(answer: type[BaseModel], *, line: type[BaseModel], has_table: bool) -> Responses:
    """Those of an operation that answers a list, of which a `line` is one item; `has_table`: or a table in CSV."""
    text = (
        f"With `stream: true`: a line for each item as it is done, each a `{line.__name__}`, then an `ItemsEnd`. A "
        "failure on the way is a line that is an `ErrorBody`, after which the connection is cut."
    )
    content = {**_json(answer), NDJSON_TYPE: {"schema": {"description": text}}}
    if has_table:
        content["text/csv"] = {"schema": {"description": "With `format: csv`: a line for each item, after a header."}}
    whole = {"description": "The list, complete or line by line.", "content": content}
    return {200: whole, **errors(*_CALL)}


def read_responses(*extra: int) -> Responses:
    """Those of an operation that only reads what the gateway knows."""
    return errors(*_READ, *extra)


def open_responses(*extra: int) -> Responses:
    """Those of an operation that needs no key."""
    return errors(405, 500, *extra)


def errors(*statuses: int) -> Responses:
    content = _json(ErrorBody)
    return {status: {"content": content, "description": _ERRORS[status]} for status in sorted(statuses)}


def _json(model: type[BaseModel]) -> dict[str, Any]:
    """By reference: FastAPI would make a model of its own for each status of each operation, half of a start's time."""
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """The request body of an operation. The body is read by hand, so FastAPI does not know of it."""
    return {"requestBody": {"required": True, "content": _json(model)}}


def path_parameter(name: str) -> dict[str, Any]:
    """A part of an operation's path. It is read by hand: FastAPI would document a refusal that never comes."""
    return {"parameters": [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}}]}


def form_or_json_body(model: type[BaseModel]) -> dict[str, Any]:
    """As `json_body`, of an operation that takes the same fields in a form, some of them as files."""
    body = json_body(model)
    schema = {"$ref": f"#/components/schemas/{form_name(model)}"}
    body["requestBody"]["content"][FORM] = {"schema": schema}
    return body


def form_name(model: type[BaseModel]) -> str:
    """What a body's form is called among the components."""
    return f"{model.__name__}Form"
