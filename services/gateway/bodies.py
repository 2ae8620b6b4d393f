"""Owns reading a request body: media type, size limit, parsing. Never sees what the fields mean."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Set
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request

from services.gateway.disconnects import ClientGone
from services.gateway.forms import FORM, parse_form
from services.gateway.validation import refusal_in, refusal_of
from shared.errors import DeadlineExceeded, Overloaded, RequestTooLarge, RequestTooSlow, UnsupportedMediaType

ModelT = TypeVar("ModelT", bound=BaseModel)

# Checking a larger body takes long enough to delay the other requests: a thread shares the time with them.
INLINE_BYTES = 64 * 1024
# A large body may take longer than a small one, if it comes no slower than this.
LEAST_BYTES_PER_S = 64 * 1024
# Of all bodies that a gateway reads at one time: what is let in by its number alone could fill the memory.
MOST_HELD = 256 * 2**20


class BodyBudget:
    """How many bytes of unread and unchecked bodies a gateway holds: first come, first served. For one event loop."""

    def __init__(self, most: int = MOST_HELD) -> None:
        self._most = most
        self.held = 0

    @contextmanager
    def holding(self) -> Generator[Callable[[int], None]]:
        """Gives what to call with the size of each piece that came, which raises Overloaded if there is no room.

        At the end nothing of them is held any more.
        """
        mine = 0

        def take(size: int) -> None:
            nonlocal mine
            if self.held + size > self._most:
                raise Overloaded("The gateway reads as many request bodies as it can hold.", retry_after=1.0)
            self.held += size
            mine += size

        try:
            yield take
        finally:
            self.held -= mine


async def read_body(
    request: Request,
    model: type[ModelT],
    *,
    limit: int,
    timeout_s: float,
    patience_s: float,
    budget: BodyBudget,
    files: Set[str] = frozenset(),
) -> ModelT:
    """Read, parse and check a body: JSON, or where fields may come as `files` a form too.

    Raises UnsupportedMediaType, RequestTooLarge before more than `limit` bytes are held, RequestTooSlow when the body
    takes longer than `patience_s` seconds and its size allow, DeadlineExceeded when it has not come within `timeout_s`
    seconds, whatever its size, Overloaded when the `budget` is spent, InvalidRequest, ClientGone.
    """
    content_type = request.headers.get("content-type", "")
    is_form = bool(files) and _media_type(content_type) == FORM
    if not is_form:
        check_media_type(request.headers, also=FORM if files else None)
    check_encoding(request.headers)
    check_length(request.headers, limit)
    parse_body = partial(parse_fields, model, content_type, files) if is_form else partial(parse, model)
    with budget.holding() as take:
        try:
            async with asyncio.timeout(timeout_s):
                body = await _receive(request, limit, patience_s, take)
        except ClientDisconnect:
            raise ClientGone from None
        except TimeoutError:
            raise DeadlineExceeded(f"The request's body did not arrive within {timeout_s:g} seconds.") from None
        return parse_body(body) if len(body) <= INLINE_BYTES else await asyncio.to_thread(parse_body, body)


def check_media_type(headers: Headers, *, also: str | None = None) -> None:
    """Only JSON in UTF-8; `also` is what else the operation takes. Raises UnsupportedMediaType."""
    media_type = headers.get("content-type", "")
    parameters = media_type.partition(";")[2]
    if _media_type(media_type) != "application/json":
        known = f"application/json or {also}" if also else "application/json"
        raise UnsupportedMediaType(f"The content type must be {known}.", param="content-type")
    charset = parameters.strip().lower().replace('"', "")
    if charset not in ("", "charset=utf-8", "charset=utf8"):
        raise UnsupportedMediaType("The body's character set must be utf-8.", param="content-type")


def check_encoding(headers: Headers) -> None:
    """Nothing compressed. Raises UnsupportedMediaType."""
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaType("The body must not be compressed.", param="content-encoding")


def check_length(headers: Headers, limit: int) -> None:
    """Refuse by the declared length, before a byte is read. Raises RequestTooLarge."""
    declared = headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
        raise _too_large(limit, declared[:18])


def parse(model: type[ModelT], body: bytes) -> ModelT:
    """Raises InvalidRequest, which names the field."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise refusal_of(error, body) from None


def parse_fields(model: type[ModelT], content_type: str, files: Set[str], body: bytes) -> ModelT:
    """A form: its texts become the numbers and truth values of the schema. Raises InvalidRequest."""
    fields = parse_form(body, content_type, files)
    try:
        return model.model_validate_strings(fields, strict=False)
    except ValidationError as error:
        raise refusal_in(error, fields) from None


async def _receive(request: Request, limit: int, patience_s: float, take: Callable[[int], None]) -> bytes:
    pieces: list[bytes] = []
    size = 0
    ends = asyncio.get_running_loop().time() + patience_s
    try:
        async with asyncio.timeout_at(ends) as patience:
            async for piece in request.stream():
                size += len(piece)
                if size > limit:
                    raise _too_large(limit, f"more than {limit}")
                take(len(piece))
                pieces.append(piece)
                patience.reschedule(ends + size / LEAST_BYTES_PER_S)
    except TimeoutError:
        raise RequestTooSlow(limit_s=patience_s, rate=LEAST_BYTES_PER_S, got=size) from None
    return b"".join(pieces)


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _too_large(limit: int, got: str) -> RequestTooLarge:
    return RequestTooLarge(f"The request body may be at most {limit} bytes; got {got}.")
