"""Owns the way from the engine's outputs to the events on the wire: encoding, joining, flushing, row ends.

Never sees Ray, HTTP or a tensor.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol

from services.engine.contract import FinishReason, Preview
from services.engine.rows import Output
from shared.errors import DeadlineExceeded, InternalError
from shared.events import Accepted, Event, Failed, Finished, RowEvent, Started, TextDelta, ToolCallDelta

Encode = Callable[[Any], Event | tuple[Event, ...]]
Report = Callable[[int, BaseException | None], None]  # a row's index, and what ended it


class Outputs(Protocol):
    """A submission: everything that arrived since the last batch, in order, until every row has ended."""

    def __aiter__(self) -> AsyncIterator[list[Output]]: ...


class Gather:
    """Events that wait to be sent, in each row's order. Consecutive pieces of a row's text, or of a call, become one.

    A row that ends by itself and has called tools ends for that reason.
    """

    def __init__(self, encode: Encode, report: Report) -> None:
        self._encode = encode
        self._report = report
        self._events: list[RowEvent] = []
        self._started: set[int] = set()  # rows that were said to have
        self._last: dict[int, int] = {}  # where each row's last event is
        self._calling: set[int] = set()  # rows that have called tools

    def add(self, batch: Sequence[Output]) -> None:
        for output in batch:
            self._add(output)

    def _add(self, output: Output) -> None:
        if output.chunk is not None:
            if output.queued_s is not None and output.row not in self._started:
                self._started.add(output.row)
                self._append(output.row, Started(output.queued_s))
            chunk = output.chunk.chunk if isinstance(output.chunk, Preview) else output.chunk
            made = self._encode(chunk)
            for event in made if isinstance(made, tuple) else (made,):
                self._append(output.row, event)
        if output.finish_reason is not None and (end := self._end(output)) is not None:
            self._append(output.row, end)

    def take(self) -> list[RowEvent]:
        events, self._events, self._last = self._events, [], {}
        return events

    def _append(self, row: int, event: Event) -> None:
        if isinstance(event, ToolCallDelta):
            self._calling.add(row)
        at = self._last.get(row)
        if at is not None and (joined := _joined(self._events[at].event, event)) is not None:
            self._events[at] = RowEvent(row, joined)
            return
        self._last[row] = len(self._events)
        self._events.append(RowEvent(row, event))

    def _end(self, output: Output) -> Event | None:
        match output.finish_reason:
            case FinishReason.STOP:
                return Finished("tool_calls" if output.row in self._calling else "stop", output.units)
            case FinishReason.LENGTH:
                return Finished("length", output.units)
            case FinishReason.DEADLINE:
                return Failed.of(DeadlineExceeded("The request's deadline passed before it was finished."))
            case FinishReason.ERROR:
                self._report(output.row, output.error)
                return Failed.of(InternalError())
            case _:
                return None  # aborted: nobody listens


def _joined(before: Event, event: Event) -> Event | None:
    """One event for both; None where they do not belong together."""
    match before, event:
        case TextDelta(), TextDelta():
            return before.join(event)
        case ToolCallDelta(), ToolCallDelta() if before.index == event.index:
            return before.join(event)
        case _:
            return None


async def row_events(
    outputs: Outputs,
    *,
    rows: int,
    encode: Encode,
    report: Report,
    flush_s: float | None,
    threads: Executor | None = None,
    slowdown: Callable[[], float] = lambda: 1.0,
) -> AsyncGenerator[list[RowEvent], None]:
    """The events of one accepted call.

    With `flush_s`: `Accepted` at once, the first output at once, then what has gathered, every `flush_s` seconds, times
    `slowdown`, at most. Without: everything at the end. What `encode` raises ends the iteration. It runs on `threads`,
    if given; what it gives is then large as well, and each output is sent on its own as soon as it is encoded.
    """
    gather = Gather(encode, report)
    accepted = RowEvent(0, Accepted(rows))
    if flush_s is not None:
        yield [accepted]
    live = rows
    async for batch in outputs:
        for part in [batch] if threads is None else [[output] for output in batch]:
            if threads is None:
                gather.add(part)
            else:
                await asyncio.get_running_loop().run_in_executor(threads, gather.add, part)
            live -= sum(output.finish_reason is not None for output in part)
            if flush_s is None or not live:
                continue
            if events := gather.take():
                sent_at = time.monotonic()
                yield events
                # Asleep rather than asking: what arrives meanwhile is one batch, and costs this loop one turn.
                await asyncio.sleep(sent_at + flush_s * slowdown() - time.monotonic())
    rest = gather.take()
    if flush_s is None:
        rest.insert(0, accepted)
    if rest:
        yield rest
