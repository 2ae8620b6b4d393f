"""A submission keeps order, conflates previews and nothing else, stays bounded, and always ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.engine.contract import FinishReason, Preview
from services.engine.errors import EngineUnhealthy, OutboxFull
from services.engine.rows import Output
from services.engine.submission import Submission


def output(chunk: Any, row: int = 0, reason: FinishReason | None = None) -> Output:
    return Output(1, row, chunk, reason, 1.0)


def submission(rows: int = 1, max_outbox: int = 100) -> tuple[Submission, list[Submission]]:
    aborted: list[Submission] = []
    return Submission(rows, max_outbox=max_outbox, abort=aborted.append), aborted


async def take_all(source: Submission) -> list[Output]:
    return [each async for batch in source for each in batch]


async def test_what_piled_up_comes_as_one_batch_and_the_end_follows_the_last_final() -> None:
    source, _ = submission(rows=2)
    source.push(output("a"))
    source.push(output("b", row=1, reason=FinishReason.STOP))
    assert [each.chunk for each in await anext(source)] == ["a", "b"]
    source.push(output("c", reason=FinishReason.LENGTH))
    assert [each.chunk for each in await anext(source)] == ["c"]
    with pytest.raises(StopAsyncIteration):
        await anext(source)


async def test_a_waiting_consumer_is_woken() -> None:
    source, _ = submission()
    waiting = asyncio.ensure_future(anext(source))
    await asyncio.sleep(0)
    source.push(output("a"))
    assert [each.chunk for each in await waiting] == ["a"]


async def test_a_consumer_cancelled_while_it_waits_loses_nothing() -> None:
    source, _ = submission()
    waiting = asyncio.ensure_future(anext(source))
    await asyncio.sleep(0)
    waiting.cancel()
    source.push(output("a", reason=FinishReason.STOP))
    assert [each.chunk for each in await take_all(source)] == ["a"]


async def test_a_later_preview_replaces_an_untaken_one_of_its_row_alone() -> None:
    source, _ = submission(rows=2)
    for chunk, row in ((Preview(1), 0), (Preview(7), 1), (Preview(2), 0)):
        source.push(output(chunk, row))
    assert [(each.row, each.chunk) for each in await anext(source)] == [(1, Preview(7)), (0, Preview(2))]
    source.push(output(Preview(3)))
    assert [each.chunk for each in await anext(source)] == [Preview(3)]


@pytest.mark.parametrize("chunk", ["piece", Preview("whole"), None])
async def test_a_row_that_ended_well_is_not_failed_by_a_full_outbox(chunk: Any) -> None:
    source, aborted = submission(max_outbox=1)
    source.push(output("first"))
    source.push(output(chunk, reason=FinishReason.LENGTH))
    assert [each.chunk for each in await take_all(source)] == ["first", chunk]
    assert aborted == []


async def test_a_preview_before_a_piece_stays_before_it() -> None:
    source, _ = submission()
    for chunk in (Preview(1), "piece", Preview(2), Preview(3)):
        source.push(output(chunk))
    assert [each.chunk for each in await anext(source)] == [Preview(1), "piece", Preview(3)]


async def test_previews_never_fill_the_outbox() -> None:
    source, aborted = submission(rows=2, max_outbox=1)
    for number in range(1000):
        source.push(output(Preview(number), row=number % 2))
    assert len(await anext(source)) == 2
    assert aborted == []


async def test_a_consumer_that_takes_nothing_is_aborted_with_an_error_and_keeps_what_was_before() -> None:
    source, aborted = submission(rows=2, max_outbox=3)
    source.push(output("x", row=1, reason=FinishReason.STOP))
    for number in range(10):
        source.push(output(number))
    assert aborted == [source]
    taken = await take_all(source)
    assert [each.chunk for each in taken] == ["x", 0, 1, 2, None]
    assert taken[-1].finish_reason is FinishReason.ERROR
    assert isinstance(taken[-1].error, OutboxFull)


async def test_a_consumer_that_keeps_up_is_never_aborted() -> None:
    source, aborted = submission(max_outbox=3)
    for number in range(10):
        source.push(output(number))
        await anext(source)
    assert aborted == []


async def test_a_failure_ends_unfinished_rows_alone_and_wakes_the_consumer() -> None:
    source, _ = submission(rows=2)
    source.push(output("x", row=1, reason=FinishReason.STOP))
    await anext(source)
    waiting = asyncio.ensure_future(take_all(source))
    await asyncio.sleep(0)
    source.fail(EngineUnhealthy("gone"))
    source.fail(EngineUnhealthy("twice"))
    source.push(output("too late"))
    (final,) = await waiting
    assert (final.row, final.finish_reason, str(final.error)) == (0, FinishReason.ERROR, "gone")


async def test_an_abort_after_the_end_asks_nothing_of_the_engine() -> None:
    source, aborted = submission()
    source.abort()
    source.push(output(None, reason=FinishReason.ABORT))
    source.abort()
    assert aborted == [source]


@given(st.lists(st.tuples(st.sampled_from(["piece", "preview", "take"]), st.integers(0, 1)), max_size=40))
def test_a_rows_outputs_keep_their_order_and_only_previews_go_missing(actions: list[tuple[str, int]]) -> None:
    async def run() -> None:
        source, _ = submission(rows=2)
        sent: list[Output] = []
        taken: list[Output] = []
        for number, (action, row) in enumerate(actions):
            if action != "take":
                sent.append(output(Preview(number) if action == "preview" else number, row))
                source.push(sent[-1])
            elif len(sent) > 0 and sent[-1] not in taken:
                taken += await anext(source)
        for row in range(2):
            sent.append(output(None, row, FinishReason.STOP))
            source.push(sent[-1])
        taken += await take_all(source)
        for row in range(2):
            mine = [each for each in sent if each.row == row]
            kept = [each for each in taken if each.row == row]
            assert kept == [each for each in mine if each in kept]
            assert [each for each in mine if each not in kept and not isinstance(each.chunk, Preview)] == []
            previews = [index for index, each in enumerate(mine) if isinstance(each.chunk, Preview)]
            last_of_run = [index for index in previews if index + 1 not in previews]
            assert all(mine[index] in kept for index in last_of_run)

    asyncio.run(run())
