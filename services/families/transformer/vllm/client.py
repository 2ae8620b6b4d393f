"""Owns what the sampler sees of vLLM: an engine that answers by pieces, and the loop that drives it. Imports no vLLM.

vLLM's front end is a set of coroutines. They run on a loop that nobody runs but whoever waits in `Loop`, which is the
engine's thread in a step: between steps nothing of them moves, and the tokens that were made wait in a socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from services.nn.text.params import GenerateParams, RawLogprob

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Made:
    """A token that vLLM made, with its log-probability if the row asked for one."""

    token: int
    logprob: RawLogprob | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """What vLLM says of a row at a time. `cached`: how many of the prompt's tokens it had read before, for another row.

    `prompt_logprobs` come with a row's first piece, if it wants them. `failed` says why vLLM ended the row badly.
    """

    made: tuple[Made, ...]
    cached: int = 0
    prompt_logprobs: tuple[RawLogprob, ...] = ()
    failed: str | None = None


class TextEngine(Protocol):
    """A vLLM engine. Coroutines belong to one loop."""

    @property
    def is_dead(self) -> bool:
        """Whether its processes are gone: nothing will be answered any more. Of any thread."""
        ...

    def generate(self, params: GenerateParams, name: str) -> AsyncGenerator[Piece, None]:
        """The row's pieces; `name` is no other running row's. Who stops early, or is cancelled, has it aborted."""
        ...

    def close(self) -> None:
        """End its processes. Safe to call twice."""
        ...


class Loop:
    """An event loop that runs while somebody waits in it, and in no other thread at the time."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._news = asyncio.Event()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run until this is done; what else is on the loop moves too."""
        return self._loop.run_until_complete(work)

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Have it move whenever the loop runs."""
        return self._loop.create_task(work)

    def tell(self) -> None:
        """End a wait: something came."""
        self._news.set()

    def wait(self, ready: Callable[[], bool], seconds: float) -> None:
        """Let everything on the loop move, at least once, until something came or so long has passed."""
        self.run(self._wait(ready, seconds))

    def close(self) -> None:
        """Drop what is still on it, and let it end; a thread that runs another loop cannot wait for that."""
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._loop.run_until_complete(_ended(tasks))
        self._loop.close()

    async def _wait(self, ready: Callable[[], bool], seconds: float) -> None:
        self._news.clear()
        await asyncio.sleep(0)
        if ready():
            return
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return


async def _ended(tasks: Iterable[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
