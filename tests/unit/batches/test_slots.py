"""Whose line runs next: tenants have even shares of the slots, and who waits is served in turn."""

from __future__ import annotations

import asyncio

from services.gateway.batches.slots import Slots


async def crowd(slots: Slots, tenants: str) -> tuple[list[str], list[asyncio.Task[None]]]:
    """One waits for each letter; those who have a slot, in order."""
    served: list[str] = []

    async def wait(tenant: str) -> None:
        await slots.take(tenant)
        served.append(tenant)

    tasks = [asyncio.create_task(wait(tenant)) for tenant in tenants]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return served, tasks


async def test_a_freed_slot_goes_to_the_tenant_that_has_the_fewest() -> None:
    slots = Slots(3)
    served, tasks = await crowd(slots, "aaaab")
    assert served == ["a", "a", "a"]
    for tenant in "aa":
        slots.give_back(tenant)
    await asyncio.gather(*tasks)
    assert served == ["a", "a", "a", "b", "a"]
    assert slots.free == 0


async def test_equals_are_served_in_turn() -> None:
    slots = Slots(1)
    served, tasks = await crowd(slots, "abcab")
    for _ in range(4):
        slots.give_back(served[-1])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert served == ["a", "b", "c", "a", "b"]


async def test_whoever_is_cancelled_keeps_no_slot() -> None:
    slots = Slots(1)
    served, tasks = await crowd(slots, "abc")
    tasks[1].cancel()
    await asyncio.gather(tasks[1], return_exceptions=True)
    slots.give_back("a")  # and at once the one who gets it goes away
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (served, slots.free) == (["a"], 1)
