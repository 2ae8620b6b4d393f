"""Signs of life between a call's batches, and what becomes of the call when whoever listens goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from services.heartbeats import with_heartbeats
from shared.events import Accepted, Finished, RowEvent

ACCEPTED = [RowEvent(0, Accepted(1))]
FINISHED = [RowEvent(0, Finished("stop", 1.0))]


class Events:
    """Two batches, each after its own pause."""

    def __init__(self, *pauses: float) -> None:
        self._pauses = pauses
        self.ended = ""

    async def stream(self) -> AsyncGenerator[list[RowEvent], None]:
        try:
            for batch, pause in zip((ACCEPTED, FINISHED), self._pauses, strict=True):
                await asyncio.sleep(pause)
                yield batch
            self.ended = "whole"
        finally:
            self.ended = self.ended or "early"


async def test_an_empty_batch_comes_soon_before_the_first() -> None:
    events = Events(0.2, 0)
    assert [batch async for batch in with_heartbeats(events.stream(), first_s=0.01, every_s=60)] == [
        [],
        ACCEPTED,
        FINISHED,
    ]
    assert events.ended == "whole"


async def test_empty_batches_come_while_nothing_else_does() -> None:
    found = [batch async for batch in with_heartbeats(Events(0, 0.2).stream(), first_s=60, every_s=0.01)]
    assert (found[0], found[-1]) == (ACCEPTED, FINISHED)
    assert len(found) > 4
    assert not any(found[1:-1])


async def test_none_come_between_batches_that_follow_each_other() -> None:
    assert [batch async for batch in with_heartbeats(Events(0, 0).stream())] == [ACCEPTED, FINISHED]


async def test_a_call_that_nobody_listens_to_any_more_ends() -> None:
    events = Events(0, 60)
    beats = with_heartbeats(events.stream(), first_s=0.01, every_s=0.01)
    assert [await anext(beats) for _ in range(2)] == [ACCEPTED, []]
    await beats.aclose()
    assert events.ended == "early"


async def test_what_the_call_raises_is_raised() -> None:
    async def fails() -> AsyncGenerator[list[RowEvent], None]:
        yield ACCEPTED
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        [batch async for batch in with_heartbeats(fails())]
