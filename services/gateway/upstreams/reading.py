"""Owns reading one remote answer to its end, whole or streamed, with every bound on it. Never sees who asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress

import httpx
from pydantic import ValidationError

from services.gateway.bodies import INLINE_BYTES
from services.gateway.upstreams.failures import (
    Curtain,
    Failure,
    TryFailed,
    broken,
    failure_of_event,
    failure_of_transport,
    late,
)
from services.gateway.upstreams.sse import BadStream, TooLong, event_data
from services.gateway.upstreams.wire import DONE, AnswerRows, BadAnswer, RemoteAnswer, UnfitAnswer
from shared.events import RowEvent

MAX_ANSWER = 16 * 2**20  # bytes of an answer in one piece, which is held whole
MAX_STREAM = 64 * 2**20
DRAIN_S = 0.2  # how long a finished stream's last bytes are waited for, so that its connection serves again
EVENT_STREAM = "text/event-stream"


async def read_answer(
    response: httpx.Response, rows: AnswerRows, curtain: Curtain, is_over: Callable[[], bool]
) -> AsyncGenerator[list[RowEvent], None]:
    """The answer's events, but for `Accepted`. Raises TryFailed; `is_over`: the deadline has passed.

    A stream is whole once every choice has its finish reason: not every server says [DONE], and none that breaks off
    in the middle has said all reasons.
    """
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    read = _stream if kind == EVENT_STREAM else _whole
    try:
        async with aclosing(read(response, rows, curtain)) as batches:
            async for batch in batches:
                yield batch
                if is_over():
                    raise TryFailed(Failure(late(), "deadline", is_fault=False, is_transient=False))
        yield rows.end()
    except ValidationError as error:  # quotes the answer, which no log may hold
        raise TryFailed(broken(type(error).__name__, curtain)) from None
    except (BadAnswer, BadStream) as error:
        is_fault = not isinstance(error, UnfitAnswer | TooLong)
        raise TryFailed(broken(str(error), curtain, is_fault=is_fault)) from None
    except httpx.HTTPError as error:
        raise TryFailed(failure_of_transport(error, curtain, is_late=is_over())) from error


async def body_of(response: httpx.Response, *, most: int) -> bytes:
    """The response's body. Raises BadStream if it is longer than `most` bytes or packed, and httpx.HTTPError."""
    return b"".join([piece async for piece in _pieces(response, most)])


async def _stream(response: httpx.Response, rows: AnswerRows, curtain: Curtain) -> AsyncGenerator[list[RowEvent], None]:
    pieces = _pieces(response, MAX_STREAM)
    async for events in event_data(pieces):
        batch: list[RowEvent] = []
        for data in _before_done(events):
            batch += await _taken(data, rows, curtain)
        if batch:
            yield batch
        if DONE in events:
            with suppress(TimeoutError, httpx.HTTPError, BadStream):
                async with asyncio.timeout(DRAIN_S):
                    async for _ in pieces:
                        pass
            return


async def _whole(response: httpx.Response, rows: AnswerRows, curtain: Curtain) -> AsyncGenerator[list[RowEvent], None]:
    yield await _taken(await body_of(response, most=MAX_ANSWER), rows, curtain)


async def _taken(data: bytes, rows: AnswerRows, curtain: Curtain) -> list[RowEvent]:
    """What a piece of the answer says; a large one is read in a thread, as large bodies of requests are."""
    if len(data) <= INLINE_BYTES:
        return _take(data, rows, curtain)
    return await asyncio.to_thread(_take, data, rows, curtain)


def _take(data: bytes, rows: AnswerRows, curtain: Curtain) -> list[RowEvent]:
    answer = RemoteAnswer.model_validate_json(data)
    if answer.error is not None:
        raise TryFailed(failure_of_event(answer.error, curtain))
    return rows.take(answer)


def _before_done(events: Sequence[bytes]) -> Sequence[bytes]:
    return events[: events.index(DONE)] if DONE in events else events


async def _pieces(response: httpx.Response, most: int) -> AsyncGenerator[bytes, None]:
    """The body as it comes. We ask for it unpacked, since nothing bounds what a packed one unpacks to."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise BadStream("the answer is packed")
    size = 0
    async for piece in response.aiter_raw():
        size += len(piece)
        if size > most:
            raise TooLong(f"the answer is longer than {most} bytes")
        yield piece
