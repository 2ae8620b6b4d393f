"""Owns how long a request waits for an answer of Redis. Never sees what is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

TIMEOUT_S = 0.25
SLICES = 5

T = TypeVar("T")


async def in_time(
    work: Coroutine[Any, Any, T], seconds: float = TIMEOUT_S, *, unwanted: Callable[[T], None] | None = None
) -> T:
    """What `work` comes to. Raises TimeoutError, and then `work` has ended.

    A caller that is cancelled as the answer comes does not learn of it: `unwanted` is then given it.

    Time is counted in slices. An event loop that was busy for longer finds a timer and an answer ready at once, and
    would take its own slowness for that of Redis; so it costs a slice, and the answer is looked for again.
    """
    task = asyncio.create_task(work)
    try:
        for _ in range(SLICES):
            await asyncio.wait({task}, timeout=seconds / SLICES)
            if task.done():
                return task.result()
        raise TimeoutError(f"no answer in {seconds:g} s")
    except asyncio.CancelledError:
        if unwanted is not None and task.done() and not task.cancelled() and task.exception() is None:
            unwanted(task.result())
        raise
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
