"""The model pool: what is loaded, when, and what those who wait are told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.model_pool import ModelPool
from shared.errors import ModelLoading, ModelNotFound, Overloaded
from tests.unit.replica.fakes import Clock, FakeRegistry, Loader, loaded, pool_of, service, until


def ready(pool: ModelPool) -> set[str]:
    return {model for model, slot in pool.slots.items() if slot.state == "ready"}


async def test_warm_up_loads_in_order_what_fits_beside_each_other() -> None:
    registry = FakeRegistry()
    loader = Loader({"a": loaded(60), "b": loaded(60), "c": loaded(40)})
    pool = pool_of(loader, registry)
    pool.apply(service("a", "b", "c", memory=100))
    await pool.warm_up()
    assert ready(pool) == set(registry.models) == {"a", "c"}
    assert pool.slots["b"].state == "cold", "what does not fit waits for its first request; it has not failed"


async def test_warm_up_loads_nothing_in_vain_if_neighbours_tell_what_weights_take(
    tmp_path: Path,
) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(20))
    loader = Loader({"a": loaded(60), "b": loaded(60)})
    pool = pool_of(loader, FakeRegistry(), folder=tmp_path)
    pool.apply(service("a", "b", memory=100))
    await pool.warm_up()
    assert (loader.loads, pool.slots["b"].state) == (["a"], "cold")
    async with pool.lease("b", wait_s=10):
        assert ready(pool) == {"b"}, "who asks for it gets it"


async def test_leases_asked_for_at_once_share_one_load() -> None:
    loader = Loader({"a": loaded()})
    pool = pool_of(loader, FakeRegistry())
    pool.apply(service("a"))

    async def use() -> int:
        async with pool.lease("a", wait_s=10) as model:
            return model.memory

    assert len(set(await asyncio.gather(*(use() for _ in range(5))))) == 1
    assert loader.loads == ["a"]


async def test_a_lease_evicts_the_least_recently_used_model_without_users() -> None:
    registry, clock = FakeRegistry(), Clock()
    loader = Loader({name: loaded(40) for name in "abc"})
    pool = pool_of(loader, registry, clock=clock)
    pool.apply(service("a", "b", "c", memory=100))
    for name in "aba":
        clock.now += 1
        async with pool.lease(name, wait_s=10):
            pass
    async with pool.lease("c", wait_s=10):
        assert set(registry.models) == {"a", "c"}
    assert pool.slots["b"].state == "cold"


async def test_what_a_model_has_counted_stays_when_it_is_evicted_or_replaced() -> None:
    loader = Loader({"a": loaded(60), "b": loaded(60)})
    pool = pool_of(loader, FakeRegistry())

    async def count(amount: float) -> None:
        async with pool.lease("a", wait_s=10) as model:
            model.counts.add(guesses=amount)

    pool.apply(service("a", "b", memory=100))
    await count(2)
    async with pool.lease("b", wait_s=10):
        assert (pool.slots["a"].state, pool.slots["a"].counts) == ("cold", {"guesses": 2})
    loader.models["a"] = loaded(60)
    await count(3)
    assert pool.slots["a"].counts == {"guesses": 5}
    loader.models["a"] = loaded(60)
    pool.apply(service("a=new", memory=100))
    assert pool.slots["a"].counts == {"guesses": 5}
    await count(4)
    assert pool.slots["a"].counts == {"guesses": 9}


async def test_a_leased_model_is_never_evicted_and_the_next_waits_for_its_end() -> None:
    registry = FakeRegistry()
    pool = pool_of(Loader({"a": loaded(60), "b": loaded(60)}), registry)
    pool.apply(service("a", "b", memory=100))

    async def use_b() -> None:
        async with pool.lease("b", wait_s=10):
            assert set(registry.models) == {"b"}

    async with pool.lease("a", wait_s=10):
        waiting = asyncio.create_task(use_b())
        await until(lambda: pool.slots["b"].memory is not None)  # it was loaded once, and found too large for now
        assert set(registry.models) == {"a"}
        assert not waiting.done()
    await waiting


async def test_a_model_larger_than_its_service_fails_for_good_without_being_tried_again() -> None:
    clock = Clock()
    loader = Loader({"a": loaded(200), "b": loaded(10)})
    pool = pool_of(loader, FakeRegistry(), clock=clock)
    pool.apply(service("a", "b", memory=100))
    await pool.warm_up()
    assert pool.slots["a"].state == "failed"
    clock.now += 10_000
    with pytest.raises(Overloaded, match="needs more memory than its service has"):
        async with pool.lease("a", wait_s=10):
            pass
    assert loader.loads.count("a") == 1
    assert ready(pool) == {"b"}


async def test_a_model_that_was_too_large_loads_once_its_service_is_given_more_memory() -> None:
    pool = pool_of(Loader({"a": loaded(200)}), FakeRegistry())
    pool.apply(service("a", memory=100))
    await pool.warm_up()
    pool.apply(service("a", memory=300))
    async with pool.lease("a", wait_s=10):
        assert ready(pool) == {"a"}


async def test_a_failed_load_fails_every_waiter_without_showing_its_cause() -> None:
    loader = Loader({"a": OSError("/secret/path is gone")})
    pool = pool_of(loader, FakeRegistry())
    pool.apply(service("a"))

    async def use() -> None:
        async with pool.lease("a", wait_s=10):
            pass

    failures = await asyncio.gather(*(use() for _ in range(3)), return_exceptions=True)
    assert [type(failure) for failure in failures] == [ModelLoading] * 3
    assert "secret" not in str(failures)
    assert loader.loads == ["a"]


async def test_failed_loads_back_off_from_one_second_doubling_to_a_minute() -> None:
    clock = Clock()
    loader = Loader({"a": OSError()})
    pool = pool_of(loader, FakeRegistry(), clock=clock)
    pool.apply(service("a"))
    waits: list[float] = []
    for _ in range(8):
        with pytest.raises(ModelLoading) as refused:
            async with pool.lease("a", wait_s=10):
                pass
        assert refused.value.retry_after is not None
        waits.append(refused.value.retry_after)
        clock.now += refused.value.retry_after - 0.5
        with pytest.raises(ModelLoading):  # half a second early: refused without a try
            async with pool.lease("a", wait_s=10):
                pass
        clock.now += 0.5
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert len(loader.loads) == 8
    loader.models["a"] = loaded()
    async with pool.lease("a", wait_s=10):
        assert pool.slots["a"].failures == 0


async def test_a_lease_not_granted_in_time_says_how_long_the_load_will_still_take(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    loader, clock = Loader({"a": loaded()}), Clock()
    pool = pool_of(loader, FakeRegistry(), clock=clock, folder=tmp_path)
    pool.apply(service("a"))
    loader.gate.clear()
    with pytest.raises(ModelLoading) as refused:
        async with pool.lease("a", wait_s=0):
            pass
    assert refused.value.retry_after == 30, "nothing is known of the model yet"
    await until(lambda: loader.loads)
    with pytest.raises(ModelLoading) as refused:
        async with pool.lease("a", wait_s=0):
            pass
    assert refused.value.retry_after == pytest.approx(5, abs=0.1), "its size on disk is"
    clock.now = 20
    loader.gate.set()
    async with pool.lease("a", wait_s=10):
        assert pool.slots["a"].load_s == 20


async def test_a_wait_that_the_last_load_shows_to_be_futile_is_refused_at_once() -> None:
    loader, clock = Loader({"a": loaded(60), "b": loaded(60)}), Clock()
    pool = pool_of(loader, FakeRegistry(), clock=clock)
    pool.apply(service("a", "b", memory=100))
    loader.gate.clear()
    warming = asyncio.create_task(pool.warm_up())
    await until(lambda: loader.loads)
    clock.now = 20
    loader.gate.set()
    await warming
    async with pool.lease("b", wait_s=100):
        pass
    with pytest.raises(ModelLoading) as refused:  # a was evicted, and took 20 s
        async with pool.lease("a", wait_s=10):
            pass
    assert refused.value.retry_after == 20


async def test_an_unknown_model_is_not_found() -> None:
    pool = pool_of(Loader({}), FakeRegistry())
    pool.apply(service("a"))
    with pytest.raises(ModelNotFound):
        async with pool.lease("b", wait_s=10):
            pass


async def test_applying_the_same_configuration_again_touches_nothing() -> None:
    loader, registry = Loader({"a": loaded(), "b": loaded()}), FakeRegistry()
    pool = pool_of(loader, registry)
    pool.apply(service("a", "b"))
    await pool.warm_up()
    before = dict(pool.slots)
    pool.apply(service("a", "b"))
    await pool.warm_up()
    assert dict(pool.slots) == before
    assert loader.loads == ["a", "b"]


async def test_a_removed_model_serves_its_leases_and_is_gone_after_the_last() -> None:
    registry = FakeRegistry(busy={"a"})
    pool = pool_of(Loader({"a": loaded(), "b": loaded()}), registry)
    pool.apply(service("a", "b"))
    await pool.warm_up()
    async with pool.lease("a", wait_s=10):
        pool.apply(service("b"))
        with pytest.raises(ModelNotFound):
            async with pool.lease("a", wait_s=10):
                pass
        await asyncio.sleep(0)
        assert "a" in registry.models
    await until(lambda: "a" not in registry.models)  # though its rows left the engine a little later
    assert ready(pool) == {"b"}


async def test_a_changed_model_is_loaded_again_once_its_leases_end() -> None:
    loader, registry = Loader({"a": loaded(60)}), FakeRegistry()
    pool = pool_of(loader, registry)
    pool.apply(service("a=one", memory=100))
    await pool.warm_up()
    first = registry.models["a"]
    loader.models["a"] = loaded(60)

    async def use() -> None:
        async with pool.lease("a", wait_s=10):
            assert registry.models["a"] is not first

    async with pool.lease("a", wait_s=10):
        pool.apply(service("a=two", memory=100))
        waiting = asyncio.create_task(use())
        await asyncio.sleep(0.01)
        assert registry.models["a"] is first, "its stream goes on"
        assert not waiting.done()
    await waiting
    assert loader.loads == ["a", "a"]


async def test_a_model_removed_while_it_loads_is_not_left_in_the_engine() -> None:
    loader, registry = Loader({"a": loaded(), "b": loaded()}), FakeRegistry()
    pool = pool_of(loader, registry)
    pool.apply(service("a", "b"))
    loader.gate.clear()
    warming = asyncio.create_task(pool.warm_up())
    await until(lambda: loader.loads)
    pool.apply(service("b"))
    loader.gate.set()
    await warming
    await until(lambda: set(registry.models) == {"b"})
    assert registry.registered == ["b"]


async def test_a_waiter_of_a_model_that_is_replaced_meanwhile_is_told_to_come_again() -> None:
    loader = Loader({"a": loaded(200), "b": loaded(60)})
    pool = pool_of(loader, FakeRegistry())
    pool.apply(service("a=one", "b", memory=100))
    loader.gate.clear()

    async def use() -> None:
        async with pool.lease("b", wait_s=10):
            pass

    waiting = asyncio.create_task(use())
    await until(lambda: loader.loads)
    loader.models["b"] = OSError()
    pool.apply(service("a=one", "b=two", memory=100))
    loader.gate.set()
    with pytest.raises(ModelLoading):
        await waiting
    await pool.close()
