"""What the tests of the threaded engine share: samplers that hold the thread inside a call, and a started engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from services.engine.async_engine import AsyncEngine
from services.engine.contract import FinishReason, StepOutput
from services.engine.engine import Engine
from services.engine.rows import Output
from services.engine.submission import Submission
from tests.contract.fake import Chunk, FakeParams, FakeSampler, FakeState
from tests.unit.engine.harness import FakeClock

LONG = FakeParams(seed=9, steps=10**9)
PATIENCE_S = 30.0  # how long a broken test hangs; never waited for otherwise


class GatedSampler(FakeSampler):
    """While the gate is shut, each step waits inside for a pass."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.open = True
        self.passes = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)

    def step(self, states: Sequence[FakeState]) -> list[StepOutput[Chunk]]:
        if not self.open:
            self.entered.release()
            assert self.passes.acquire(timeout=PATIENCE_S)
        return super().step(states)

    async def until_inside(self) -> None:
        """Return when the engine's thread stands in a step."""
        assert await asyncio.to_thread(self.entered.acquire, timeout=PATIENCE_S)

    def let_all_pass(self) -> None:
        self.open = True
        self.passes.release()


class GatedStart(GatedSampler):
    """The same for `start`, which the thread calls before it admits anything else."""

    def start(self, params: FakeParams) -> FakeState:
        self.entered.release()
        assert self.passes.acquire(timeout=PATIENCE_S)
        self.passes.release()
        return super().start(params)


class CountsSteps(Engine):
    steps = 0

    def advance(self) -> list[Output]:
        self.steps += 1
        return super().advance()


class Fleet:
    """An async engine, what it stands on, and a way to stop it whatever the test did."""

    def __init__(self, max_waiting_cost: float, **options: Any) -> None:
        self.sampler = GatedSampler()
        self.clock = FakeClock()
        self.inner = CountsSteps({"m": self.sampler}, clock=self.clock, max_waiting_cost=max_waiting_cost)
        self.engine = AsyncEngine(self.inner, **options)

    def submit(self, *rows: FakeParams, **options: Any) -> Submission:
        return self.engine.submit(options.pop("model", "m"), rows, **options)

    async def shut_inside(self, *rows: FakeParams) -> Submission:
        """Submit rows and hold the thread in their first step."""
        self.sampler.open = False
        submission = self.submit(*rows)
        await self.sampler.until_inside()
        return submission


Start = Callable[..., Awaitable[Fleet]]


async def take_all(submission: Submission) -> list[Output]:
    async with asyncio.timeout(PATIENCE_S):
        return [output async for batch in submission for output in batch]


def pieces(outputs: Sequence[Output], row: int = 0) -> list[Any]:
    return [output.chunk for output in outputs if output.row == row and output.chunk is not None]


def reasons(outputs: Sequence[Output]) -> list[FinishReason]:
    return [output.finish_reason for output in outputs if output.finish_reason is not None]
