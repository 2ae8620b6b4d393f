"""From the engine's outputs to events: what is joined, what is sent when, and how rows end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.engine.contract import FinishReason, Preview
from services.engine.errors import RowFailed
from services.engine.rows import Output
from services.row_events import row_events
from shared.events import Accepted, Event, Failed, Finished, RowEvent, Started, TextDelta, ToolCallDelta

LONG_S = 60.0  # a flush that never comes: what arrives before it must not wait for it


class Script:
    """Outputs that arrive in these batches; each waits until the one before was taken."""

    def __init__(self, *batches: Sequence[Output]) -> None:
        self._batches = [list(batch) for batch in batches]

    async def __aiter__(self) -> AsyncIterator[list[Output]]:
        for batch in self._batches:
            yield batch


def piece(row: int, text: str, finish: FinishReason | None = None, units: float = 1.0) -> Output:
    return Output(0, row, text, finish, units)


def end(row: int, finish: FinishReason, error: RowFailed | None = None) -> Output:
    return Output(0, row, None, finish, 7.0, error)


def encode(chunk: str) -> TextDelta:
    return TextDelta(chunk, 3, len(chunk))


async def collect(
    script: Script, *, rows: int = 1, flush_s: float | None = 0.0, failures: list[tuple[int, object]] | None = None
) -> list[list[RowEvent]]:
    def report(row: int, error: BaseException | None) -> None:
        assert failures is not None, "a row failed"
        failures.append((row, error))

    events = row_events(script, rows=rows, encode=encode, report=report, flush_s=flush_s)
    return [batch async for batch in events]


async def test_a_plain_call_gets_one_batch_with_everything_joined() -> None:
    script = Script(
        [piece(0, "a"), piece(1, "x")],
        [piece(0, "b"), piece(1, "y", FinishReason.STOP)],
        [piece(0, "c"), end(0, FinishReason.LENGTH)],
    )
    assert await collect(script, rows=2, flush_s=None) == [
        [
            RowEvent(0, Accepted(2)),
            RowEvent(0, TextDelta("abc", 3, 1)),
            RowEvent(1, TextDelta("xy", 3, 1)),
            RowEvent(1, Finished("stop", 1.0)),
            RowEvent(0, Finished("length", 7.0)),
        ]
    ]


async def test_a_stream_is_accepted_and_gets_its_first_piece_before_anything_else_arrives() -> None:
    never = asyncio.Event()

    class Stuck:
        async def __aiter__(self) -> AsyncIterator[list[Output]]:
            yield [piece(0, "a")]
            await never.wait()

    events = row_events(Stuck(), rows=1, encode=encode, report=lambda row, error: None, flush_s=LONG_S)
    assert await anext(events) == [RowEvent(0, Accepted(1))]
    assert await anext(events) == [RowEvent(0, TextDelta("a", 3, 1))]
    await events.aclose()


async def test_pieces_that_gather_between_flushes_are_one_piece() -> None:
    script = Script([piece(0, "a")], [piece(0, "b"), piece(0, "c"), piece(0, "d")], [end(0, FinishReason.STOP)])
    batches = await collect(script)
    assert batches[1:] == [
        [RowEvent(0, TextDelta("a", 3, 1))],
        [RowEvent(0, TextDelta("bcd", 3, 1))],
        [RowEvent(0, Finished("stop", 7.0))],
    ]


async def test_the_flush_waits_for_its_time_and_then_takes_all_that_arrived() -> None:
    arrived: asyncio.Queue[Output] = asyncio.Queue()
    taken: list[int] = []

    class Outbox:
        async def __aiter__(self) -> AsyncIterator[list[Output]]:
            while True:
                batch = [await arrived.get()]
                while not arrived.empty():
                    batch.append(arrived.get_nowait())
                taken.append(len(batch))
                yield batch

    arrived.put_nowait(piece(0, "a"))
    events = row_events(Outbox(), rows=1, encode=encode, report=lambda row, error: None, flush_s=0.05)
    await anext(events)
    await anext(events)
    following = asyncio.ensure_future(anext(events))
    for text in "bcd":
        await asyncio.sleep(0)
        arrived.put_nowait(piece(0, text))
    assert await following == [RowEvent(0, TextDelta("bcd", 3, 1))]
    assert taken == [1, 3]
    await events.aclose()


async def test_the_last_piece_comes_with_its_end_and_does_not_wait_for_a_flush() -> None:
    script = Script([piece(0, "only", FinishReason.STOP)])
    assert await collect(script, flush_s=LONG_S) == [
        [RowEvent(0, Accepted(1))],
        [RowEvent(0, TextDelta("only", 3, 4)), RowEvent(0, Finished("stop", 1.0))],
    ]


async def test_a_late_row_fails_with_the_deadline_and_its_neighbour_ends_well() -> None:
    script = Script([piece(0, "a"), end(0, FinishReason.DEADLINE), piece(1, "b", FinishReason.STOP)])
    (batch,) = await collect(script, rows=2, flush_s=None)
    assert [event for row, event in batch if row == 1] == [TextDelta("b", 3, 1), Finished("stop", 1.0)]
    failed = batch[2].event
    assert isinstance(failed, Failed)
    assert (failed.status, failed.code) == (504, "deadline_exceeded")


async def test_a_failed_row_is_an_internal_error_without_its_cause_which_is_reported() -> None:
    error, failures = RowFailed("secret"), list[tuple[int, object]]()
    (batch,) = await collect(Script([end(0, FinishReason.ERROR, error)]), flush_s=None, failures=failures)
    failed = batch[1].event
    assert isinstance(failed, Failed)
    assert failed.status == 500
    assert "secret" not in failed.message
    assert failures == [(0, error)]


async def test_an_aborted_row_says_nothing() -> None:
    assert await collect(Script([end(0, FinishReason.ABORT)])) == [[RowEvent(0, Accepted(1))]]


async def test_a_preview_is_encoded_as_its_chunk() -> None:
    batches = await collect(Script([Output(0, 0, Preview("p"), None, 1.0)], [end(0, FinishReason.STOP)]))
    assert batches[1] == [RowEvent(0, TextDelta("p", 3, 1))]


async def test_what_encoding_raises_reaches_the_caller() -> None:
    def broken(chunk: str) -> TextDelta:
        raise RuntimeError("cannot encode")

    events = row_events(Script([piece(0, "a")]), rows=1, encode=broken, report=lambda row, error: None, flush_s=None)
    with pytest.raises(RuntimeError, match="cannot encode"):
        await anext(events)


async def test_slow_encoding_leaves_the_event_loop() -> None:
    encoded_on = list[str]()

    def slow(chunk: str) -> TextDelta:
        encoded_on.append(threading.current_thread().name)
        return encode(chunk)

    with ThreadPoolExecutor(1, thread_name_prefix="worker") as threads:
        script = Script([piece(0, "a")], [piece(0, "b")], [end(0, FinishReason.STOP)])
        events = row_events(script, rows=1, encode=slow, report=lambda row, error: None, flush_s=None, threads=threads)
        (batch,) = [batch async for batch in events]
    assert batch[1].event == TextDelta("ab", 3, 1)
    assert [name.startswith("worker") for name in encoded_on] == [True, True]


async def test_what_is_slow_to_encode_is_sent_output_by_output() -> None:
    """All at once, many large images would exceed what a message holds."""
    pieces = [[piece(0, "a", FinishReason.STOP), piece(1, "b", FinishReason.STOP)]]
    with ThreadPoolExecutor(1) as threads:
        events = row_events(
            Script(*pieces), rows=2, encode=encode, report=lambda row, error: None, flush_s=0.0, threads=threads
        )
        batches = [batch async for batch in events]
    assert batches == [
        [RowEvent(0, Accepted(2))],
        [RowEvent(0, TextDelta("a", 3, 1)), RowEvent(0, Finished("stop", 1.0))],
        [RowEvent(1, TextDelta("b", 3, 1)), RowEvent(1, Finished("stop", 1.0))],
    ]


async def test_a_row_is_said_to_have_started_before_its_first_piece() -> None:
    pieces = [Output(0, 0, text, None, 1.0, queued_s=0.5) for text in "ab"]
    assert await collect(Script(pieces, [end(0, FinishReason.STOP)]), flush_s=None) == [
        [
            RowEvent(0, Accepted(1)),
            RowEvent(0, Started(0.5)),
            RowEvent(0, TextDelta("ab", 3, 1)),
            RowEvent(0, Finished("stop", 7.0)),
        ]
    ]


async def test_pieces_of_one_call_of_a_tool_are_joined_and_a_row_that_calls_ends_so() -> None:
    def encode_calls(chunk: str) -> tuple[Event, ...]:
        """A digit is a call's beginning, a letter more of the last; text is in capitals."""
        made: list[Event] = []
        for at, letter in enumerate(chunk):
            if letter.isdigit():
                made.append(ToolCallDelta(int(letter), f"c{letter}", "f", "", 3, at))
            elif letter.isupper():
                made.append(TextDelta(letter, 3, at))
            else:
                made.append(ToolCallDelta(0, None, None, letter, 3, at))
        return tuple(made)

    outputs = [piece(0, "AB0ab"), piece(0, ""), piece(0, "c1", FinishReason.STOP), piece(1, "0a", FinishReason.LENGTH)]
    batches = row_events(Script(outputs), rows=2, encode=encode_calls, report=lambda _row, _error: None, flush_s=None)
    (batch,) = [batch async for batch in batches]
    assert [event for row, event in batch if row == 0 and not isinstance(event, Accepted)] == [
        TextDelta("AB", 3, 1),
        ToolCallDelta(0, "c0", "f", "abc", 3, 0),
        ToolCallDelta(1, "c1", "f", "", 3, 1),
        Finished("tool_calls", 1.0),
    ]
    assert batch[-1] == RowEvent(1, Finished("length", 1.0))
