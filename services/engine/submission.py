"""Owns one submission's way back to its consumer: a bounded outbox on the event loop. Never sees the thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.engine.contract import FinishReason, Preview
from services.engine.errors import EngineError, OutboxFull
from services.engine.rows import Output

NO_REQUEST = 0  # the request of an output that does not come from the engine, whose own ids start at 1


class Submission:
    """The outputs of one request, for one consumer: `async for outputs in submission`.

    Each item is everything that arrived since the last, in order, never empty; the iteration ends after every row's
    final output. `Output.row` is the row's index in the submission. All methods belong to the event loop's thread. A
    consumer that stops early, or is cancelled, must call `abort`.

    A preview that was not taken yet is replaced by a later one of the same row, unless a piece came between. Nothing
    else is ever dropped: when more than `max_outbox` outputs that are neither previews nor final pile up, the
    submission is aborted, and its unfinished rows end with ERROR and `OutboxFull`.
    """

    def __init__(self, rows: int, *, max_outbox: int, abort: Callable[[Submission], None]) -> None:
        self._unfinished = set(range(rows))
        self._units = [0.0] * rows
        self._max_outbox = max_outbox
        self._abort = abort
        self._arrived = asyncio.Event()
        self._outbox: dict[int, Output] = {}  # by order of arrival, which is the order of insertion
        self._previews: dict[int, int] = {}  # row -> its untaken preview's place in the outbox
        self._pieces = 0  # untaken outputs that are neither previews nor final
        self._arrivals = 0

    @property
    def finished(self) -> bool:
        """Whether every row's final output has arrived, taken or not."""
        return not self._unfinished

    def abort(self) -> None:
        """End all rows at the next step boundary. Safe to call twice, and after the end."""
        if self._unfinished:
            self._abort(self)

    def __aiter__(self) -> Submission:
        return self

    async def __anext__(self) -> list[Output]:
        if not self._outbox:
            if self.finished:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        outputs = list(self._outbox.values())
        self._outbox.clear()
        self._pieces = 0
        self._previews.clear()
        return outputs

    def push(self, output: Output) -> None:
        """Take in one output of the engine. What comes for a row after its end is ignored."""
        if output.row not in self._unfinished:
            return
        final = output.finish_reason is not None
        preview = not final and isinstance(output.chunk, Preview)
        stale = self._previews.pop(output.row, None)
        if preview:
            if stale is not None:
                del self._outbox[stale]
            self._previews[output.row] = self._arrivals
        elif not final:
            if self._pieces == self._max_outbox:
                self._abort(self)
                self.fail(OutboxFull(self._max_outbox))
                return
            self._pieces += 1
        if final:
            self._unfinished.discard(output.row)
        self._units[output.row] = output.units
        self._put(output)

    def fail(self, error: EngineError) -> None:
        """End every unfinished row with ERROR."""
        for row in sorted(self._unfinished):
            self._put(Output(NO_REQUEST, row, None, FinishReason.ERROR, self._units[row], error))
        self._unfinished.clear()
        self._arrived.set()

    def _put(self, output: Output) -> None:
        self._outbox[self._arrivals] = output
        self._arrivals += 1
        self._arrived.set()
