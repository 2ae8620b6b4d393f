"""Owns the sign of life of a call: an empty batch where nothing else comes. Never sees Ray."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from shared.events import HEARTBEAT_S, RowEvent

FIRST_S = 1.0  # whoever waits learns soon that the call has arrived


async def with_heartbeats(
    events: AsyncGenerator[list[RowEvent], None], *, first_s: float = FIRST_S, every_s: float = HEARTBEAT_S
) -> AsyncGenerator[list[RowEvent], None]:
    """The batches of a call, and an empty one whenever none has come for `every_s` seconds, at first for `first_s`."""
    wait_s = first_s
    coming: asyncio.Future[list[RowEvent]] | None = None
    try:
        while True:
            if coming is None:
                coming = asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait({coming}, timeout=wait_s)
            wait_s = every_s
            if not done:
                yield []
                continue
            came, coming = coming, None
            try:
                batch = came.result()
            except StopAsyncIteration:
                return
            yield batch
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        await events.aclose()
