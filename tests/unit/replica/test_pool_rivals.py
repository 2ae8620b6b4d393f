"""The model pool when its models do not fit beside each other: who gets the room, and who waits for it."""

from __future__ import annotations

import asyncio

import pytest

from services.model_pool import ModelPool
from shared.errors import ModelLoading
from tests.unit.replica.fakes import Clock, FakeRegistry, Loader, loaded, pool_of, service, until


async def use(pool: ModelPool, model: str, *, wait_s: float = 100) -> None:
    async with pool.lease(model, wait_s=wait_s):
        pass


async def evicted_after_a_slow_load(clock: Clock) -> ModelPool:
    """A pool with room for one of a and b; a took 20 s to load and was evicted for b."""
    loader = Loader({"a": loaded(60), "b": loaded(60)})
    pool = pool_of(loader, FakeRegistry(), clock=clock)
    pool.apply(service("a", "b", memory=100))
    loader.gate.clear()
    loading = asyncio.create_task(use(pool, "a"))
    await until(lambda: loader.loads)
    clock.now += 20
    loader.gate.set()
    await loading
    await use(pool, "b")
    assert pool.slots["a"].state == "cold"
    return pool


@pytest.mark.timeout(10)
async def test_an_evicted_model_is_loaded_for_a_client_that_was_told_to_come_back() -> None:
    pool = await evicted_after_a_slow_load(Clock())
    with pytest.raises(ModelLoading):
        await use(pool, "a", wait_s=10)
    await until(lambda: pool.slots["a"].state == "ready")


@pytest.mark.timeout(10)
async def test_a_model_is_kept_for_the_client_that_was_told_to_come_back_but_not_for_ever() -> None:
    for returns in (True, False):
        clock = Clock()
        pool = await evicted_after_a_slow_load(clock)
        with pytest.raises(ModelLoading):
            await use(pool, "a", wait_s=10)
        await until(lambda: pool.slots["a"].state == "ready")  # noqa: B023 - awaited at once
        rival = asyncio.create_task(use(pool, "b"))
        clock.now += 30  # the client was told 20 s, which the gateway spreads
        await asyncio.sleep(0.05)
        assert not rival.done()
        if returns:
            await use(pool, "a", wait_s=1)
        else:
            clock.now += 10
        await rival


@pytest.mark.timeout(10)
async def test_a_load_that_nobody_waits_for_any_longer_gives_up_its_claim() -> None:
    clock = Clock()
    pool = pool_of(Loader({"a": loaded(60), "b": loaded(60)}), FakeRegistry(), clock=clock)
    pool.apply(service("a", "b", memory=100))
    async with pool.lease("a", wait_s=10):
        with pytest.raises(ModelLoading) as refused:
            await use(pool, "b", wait_s=0)
        assert refused.value.retry_after is not None
        await until(lambda: pool.slots["b"].memory is not None)  # it was loaded once, and found too large for now
        clock.now += refused.value.retry_after
        await asyncio.sleep(0.01)
        assert pool.slots["b"].state == "loading", "its client is about to come back"
        clock.now += 60
        await until(lambda: pool.slots["b"].state == "cold")


async def test_how_long_a_load_waited_for_room_does_not_count_as_how_long_it_took() -> None:
    clock = Clock()
    pool = pool_of(Loader({"a": loaded(60), "b": loaded(60)}), FakeRegistry(), clock=clock)
    pool.apply(service("a", "b", memory=100))
    async with pool.lease("a", wait_s=10):
        waiting = asyncio.create_task(use(pool, "b"))
        await until(lambda: pool.slots["b"].memory is not None)
        clock.now += 50
    await waiting
    assert pool.slots["b"].load_s == 0


@pytest.mark.timeout(10)
async def test_a_load_that_waits_for_a_busy_neighbour_does_not_hold_up_one_that_fits() -> None:
    registry = FakeRegistry()
    pool = pool_of(Loader({"a": loaded(60), "b": loaded(60), "c": loaded(40)}), registry)
    pool.apply(service("a", "b", "c", memory=100))
    async with pool.lease("a", wait_s=10):
        waiting = asyncio.create_task(use(pool, "b"))
        await until(lambda: pool.slots["b"].memory is not None)
        await use(pool, "c", wait_s=5)
        assert set(registry.models) == {"a", "c"}
        assert not waiting.done()
    await waiting
    assert "b" in registry.models


@pytest.mark.parametrize("now", [["a"], ["a", "b=two"]], ids=["removed", "replaced"])
async def test_warming_up_passes_over_a_model_that_was_removed_or_replaced_meanwhile(now: list[str]) -> None:
    loader, registry = Loader({"a": loaded(), "b": loaded()}), FakeRegistry()
    pool = pool_of(loader, registry)
    pool.apply(service("a", "b=one"))
    loader.gate.clear()
    warming = asyncio.create_task(pool.warm_up())
    await until(lambda: loader.loads)
    pool.apply(service(*now))
    loader.gate.set()
    await warming
    assert set(registry.models) == {"a"}
    await pool.warm_up()
    assert {model for model, slot in pool.slots.items() if slot.state == "ready"} == set(registry.models)
    assert len(registry.models) == len(now)
