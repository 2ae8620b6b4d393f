"""The narrow place in front of the engine: who waits goes in the engine's order, and no place is lost."""

from __future__ import annotations

import asyncio

from services.engine.backlog import Share
from services.engine.fair_gate import FairGate


class Passers:
    """Tasks that pass the gate and stay inside until they are let out."""

    def __init__(self, places: int = 1) -> None:
        self.gate = FairGate(places)
        self.entered: list[str] = []
        self._out: dict[str, asyncio.Event] = {}

    async def come(self, name: str, tenant: str, *, priority: int = 1, weight: float = 1.0) -> asyncio.Task[None]:
        async def passing() -> None:
            async with self.gate.passage(Share(priority, tenant, weight)):
                self.entered.append(name)
                await self._out[name].wait()

        self._out[name] = asyncio.Event()
        task = asyncio.create_task(passing())
        await settle()
        return task

    async def leave(self, name: str) -> None:
        self._out[name].set()
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_pass_than_there_are_places() -> None:
    passers = Passers(places=2)
    for name in "xyz":
        await passers.come(name, "a")
    assert passers.entered == ["x", "y"]
    for name in "xyz":
        await passers.leave(name)
    assert passers.entered == ["x", "y", "z"]


async def test_a_flood_is_overtaken_by_another_tenants_first() -> None:
    passers = Passers()
    for name in ("a1", "a2", "a3", "a4"):
        await passers.come(name, "a")
    await passers.come("b1", "b")
    for name in ("a1", "a2", "b1", "a3", "a4"):
        await passers.leave(name)
    assert passers.entered.index("b1") <= 2


async def test_a_better_priority_goes_first() -> None:
    passers = Passers()
    for name, priority in (("in", 1), ("batch", 2), ("interactive", 0)):
        await passers.come(name, name, priority=priority)
    await passers.leave("in")
    assert passers.entered == ["in", "interactive"]
    await passers.leave("interactive")
    await passers.leave("batch")


async def test_whoever_gives_up_waiting_takes_no_place() -> None:
    passers = Passers()
    await passers.come("in", "a")
    gone = await passers.come("gone", "a")
    await passers.come("next", "a")
    gone.cancel()
    await settle()
    await passers.leave("in")
    assert passers.entered == ["in", "next"]
    await passers.leave("next")
    await passers.come("last", "a")
    assert passers.entered[-1] == "last"
    await passers.leave("last")


async def test_a_turn_that_comes_as_its_waiter_gives_up_goes_to_the_next() -> None:
    passers = Passers()
    async with passers.gate.passage(Share(1, "a", 1.0)):
        gone = await passers.come("gone", "a")
        await passers.come("next", "a")
    gone.cancel()  # its turn has come, and it does not know yet
    await settle()
    assert passers.entered == ["next"]
    await passers.leave("next")
    await passers.come("last", "a")
    assert passers.entered == ["next", "last"]
    await passers.leave("last")


async def test_who_waits_is_counted_by_tenant_and_priority_until_it_passes_or_gives_up() -> None:
    passers = Passers()
    share = Share(1, "a", 1.0)
    await passers.come("in", "a")
    gone = await passers.come("gone", "a")
    await passers.come("next", "a")
    await passers.come("other", "b")
    await passers.come("batch", "a", priority=2)
    assert passers.gate.waiting(share) == 2
    gone.cancel()
    await settle()
    assert passers.gate.waiting(share) == 1
    for name in ("in", "next", "other", "batch"):
        await passers.leave(name)
    assert passers.gate.waiting(share) == 0
