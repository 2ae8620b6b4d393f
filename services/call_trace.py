"""Owns what a replica tells of one call as spans: preparation, and each row's queue, prefill and steps, and encoding.

All are made once the call is over, from the times that the engine gives with each row's last output. Never sees Ray,
HTTP, a tensor, or what a prompt or an answer says.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from services.engine.contract import FinishReason
from services.engine.rows import Output, RowTimes
from services.row_events import Encode, Outputs
from shared.calls import Call
from shared.events import Event, TextDelta, ToolCallDelta
from shared.tracing import Attributes, Kind, Tracer, about_call, error_name, operation_of

MOST_ROWS = 16  # of a call have spans: ten thousand items would drown a trace


@dataclass(slots=True)
class _Encoding:
    """Of all rows together: what is encoded comes in pieces among the steps. Times are of the clock, in seconds."""

    pieces: int = 0
    seconds: float = 0.0
    began: float = 0.0
    ended: float = 0.0

    def add(self, began: float, ended: float) -> None:
        self.began = self.began if self.pieces else began
        self.pieces, self.seconds, self.ended = self.pieces + 1, self.seconds + ended - began, ended


class CallTrace:
    """One call's spans, from `with` to its end. Where the call is not sampled, nothing is gathered.

    `clock` is the engine's: `time.monotonic`.
    """

    def __init__(self, tracer: Tracer, call: Call, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._tracer = tracer
        self._clock = clock
        name = f"{operation_of(call.task)} {call.model}"
        attributes = about_call(call.task, call.model)
        self._span = tracer.start(name, Kind.SERVER, parent=call.traceparent, attributes=attributes)
        self._began = clock() if self._span.is_recorded else 0.0
        self._ended: list[tuple[int, RowTimes, FinishReason]] = []
        self._encoding = _Encoding()
        self._is_text = False

    def __enter__(self) -> CallTrace:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, Exception):
            self._span.fail(error_name(error))
        if self._span.is_recorded:
            self._tell()
        self._span.end()

    def prepared(self, rows: int) -> None:
        """The call has become so many rows, and they are queued."""
        if self._span.is_recorded:
            self._span.note({"castalia.rows": rows})
            self._record("prepare", self._began, self._clock(), {})

    def watch(self, outputs: Outputs) -> Outputs:
        """The same outputs; the times of ended rows are noted as they pass."""
        return _Watched(outputs, self._note) if self._span.is_recorded else outputs

    def timed(self, encode: Encode) -> Encode:
        """The same encoding; how long it takes is noted."""
        if not self._span.is_recorded:
            return encode

        def timed(chunk: Any) -> Event | tuple[Event, ...]:
            began = self._clock()
            event = encode(chunk)
            self._encoding.add(began, self._clock())
            first = event[:1] if isinstance(event, tuple) else (event,)
            self._is_text = self._is_text or any(isinstance(each, TextDelta | ToolCallDelta) for each in first)
            return event

        return timed

    def _note(self, output: Output) -> None:
        if output.finish_reason is not None and output.times is not None and len(self._ended) < MOST_ROWS:
            self._ended.append((output.row, output.times, output.finish_reason))

    def _tell(self) -> None:
        self._span.note({"gen_ai.response.finish_reasons": [reason.value for _, _, reason in self._ended]})
        for row, times, reason in self._ended:
            self._tell_row(times, {"castalia.row": row, "castalia.finish_reason": reason.value})
        encoding = self._encoding
        if encoding.pieces:
            about = {"castalia.encode.pieces": encoding.pieces, "castalia.encode.seconds": encoding.seconds}
            self._record("encode", encoding.began, encoding.ended, about)

    def _tell_row(self, times: RowTimes, about: Attributes) -> None:
        if times.started_at is None:
            self._record("queue", times.submitted_at, times.ended_at, about)
            return
        self._record("queue", times.submitted_at, times.started_at, about)
        stepped_from = times.started_at
        if self._is_text and times.first_chunk_at is not None:  # a row of text reads its prompt before it writes
            self._record("prefill", times.started_at, times.first_chunk_at, about)
            stepped_from = times.first_chunk_at
        self._record("steps", stepped_from, times.ended_at, {**about, "castalia.steps": times.steps})

    def _record(self, name: str, began: float, ended: float, about: Attributes) -> None:
        self._tracer.record(name, parent=self._span.traceparent, began=began, ended=ended, attributes=about)


class _Watched:
    """Outputs that are shown to somebody as they pass."""

    def __init__(self, outputs: Outputs, note: Callable[[Output], None]) -> None:
        self._coming = aiter(outputs)
        self._note = note

    def __aiter__(self) -> AsyncIterator[list[Output]]:
        return self

    async def __anext__(self) -> list[Output]:
        batch = await anext(self._coming)
        for output in batch:
            self._note(output)
        return batch
