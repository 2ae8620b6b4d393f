"""Models that are loaded upon another: after it, beside it in its memory, and gone before it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.families import LoadedModel
from services.model_pool import ModelPool
from shared.config.base import LocalModel
from shared.config.models import HostedService
from shared.errors import ModelLoading, Overloaded
from tests.unit.replica.fakes import MIB, Clock, FakeRegistry, Loader, loaded, pool_of, service, until

BASES = {"a1": "a", "a2": "a", "b1": "b"}


def hosting(*models: str, memory: int = 100, sources: Mapping[str, str] | None = None) -> HostedService:
    """A service of these models, of which those of BASES are adapters."""
    named = sources or {}
    entries = [
        {"id": name, "base": BASES[name], "adapter": f"file://{named.get(name, name)}"}
        if name in BASES
        else {"id": name, "source": f"file://{named.get(name, name)}"}
        for name in models
    ]
    return service(memory=memory, models=entries)


class Loads(Loader):
    """A loader whose models take adapters: of so many MiB each, or what loading them raises."""

    def __init__(self, models: dict[str, LoadedModel | Exception], adapters: Mapping[str, int | Exception]) -> None:
        super().__init__(
            {
                name: replace(model, adapt=self._adapting(model, adapters)) if isinstance(model, LoadedModel) else model
                for name, model in models.items()
            }
        )

    def _adapting(self, model: LoadedModel, adapters: Mapping[str, int | Exception]) -> Any:
        def adapt(config: LocalModel, folder: Path) -> LoadedModel:
            self.loads.append(config.id)
            assert self.gate.wait(10)
            memory = adapters[config.id]
            if isinstance(memory, Exception):
                raise memory
            return replace(model, memory=memory * MIB)

        return adapt


def ready(pool: ModelPool) -> set[str]:
    return {model for model, slot in pool.slots.items() if slot.state == "ready"}


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def use(pool: ModelPool, model: str) -> LoadedModel:
    async with pool.lease(model, wait_s=10) as held:
        return held


async def test_warm_up_loads_a_base_before_its_adapter_whatever_their_order(registry: FakeRegistry) -> None:
    loader = Loads({"a": loaded(60)}, {"a1": 1, "a2": 1})
    pool = pool_of(loader, registry)
    pool.apply(hosting("a1", "a", "a2"))
    await pool.warm_up()
    assert ready(pool) == {"a", "a1", "a2"}
    assert loader.loads == ["a", "a1", "a2"], "the base is loaded once, and first"
    assert registry.bases == {"a": None, "a1": "a", "a2": "a"}
    assert list(pool.slots) == ["a1", "a", "a2"]


async def test_asking_for_an_adapter_wakes_its_base(registry: FakeRegistry) -> None:
    loader = Loads({"a": loaded(60), "b": loaded(60)}, {"a1": 1})
    pool = pool_of(loader, registry)
    pool.apply(hosting("b", "a", "a1"))
    await pool.warm_up()
    assert ready(pool) == {"b"}
    await use(pool, "a1")
    assert ready(pool) == {"a", "a1"}


async def test_a_base_stays_while_its_adapter_is_in_use(registry: FakeRegistry) -> None:
    pool = pool_of(Loads({"a": loaded(60), "b": loaded(60)}, {"a1": 1}), registry)
    pool.apply(hosting("a", "a1", "b"))
    async with pool.lease("a1", wait_s=10):
        asking = asyncio.create_task(use(pool, "b"))
        await until(lambda: pool.slots["b"].memory is not None)  # it was loaded once, and found too large for now
        assert ready(pool) == {"a", "a1"}
    await asking
    assert ready(pool) == {"b"}
    assert set(registry.models) == {"b"}


async def test_idle_adapters_go_before_their_base_and_make_it_no_less_idle(
    registry: FakeRegistry, clock: Clock
) -> None:
    pool = pool_of(Loads({"a": loaded(60), "b": loaded(60)}, {"a1": 10, "a2": 10}), registry, clock=clock)
    pool.apply(hosting("a", "a1", "a2", "b"))
    for name in ("a1", "a2", "a"):
        clock.now += 1
        await use(pool, name)
    clock.now += 1
    await use(pool, "b")
    assert ready(pool) == {"b"}


async def test_an_adapter_that_needs_room_takes_it_of_others_never_of_its_base(
    registry: FakeRegistry, clock: Clock
) -> None:
    pool = pool_of(Loads({"a": loaded(50), "b": loaded(30)}, {"a1": 30, "a2": 30}), registry, clock=clock)
    pool.apply(hosting("a", "a1", "a2", "b"))
    for name in ("a1", "b", "a2"):
        clock.now += 1
        await use(pool, name)
    assert ready(pool) == {"a", "a2"}


async def test_an_adapter_too_large_beside_its_base_fails_for_good(registry: FakeRegistry) -> None:
    pool = pool_of(Loads({"a": loaded(60)}, {"a1": 50}), registry)
    pool.apply(hosting("a", "a1"))
    await pool.warm_up()
    with pytest.raises(Overloaded, match="needs more memory"):
        await use(pool, "a1")
    assert ready(pool) == {"a"}


async def test_a_base_that_does_not_load_fails_its_adapter_which_tries_again(
    registry: FakeRegistry, clock: Clock
) -> None:
    loader = Loads({"a": OSError("/secret/path")}, {"a1": 1})
    pool = pool_of(loader, registry, clock=clock)
    pool.apply(hosting("a", "a1"))
    with pytest.raises(ModelLoading, match="Model 'a1' failed to load"):
        await use(pool, "a1")
    assert (pool.slots["a"].state, pool.slots["a1"].state) == ("failed", "failed")
    loader.models["a"] = Loads({"a": loaded(10)}, {"a1": 1}).models["a"]
    clock.now += 60
    await use(pool, "a1")
    assert ready(pool) == {"a", "a1"}


async def test_an_adapter_that_is_refused_leaves_its_base_alone(registry: FakeRegistry) -> None:
    pool = pool_of(Loads({"a": loaded(10)}, {"a1": ValueError("use_dora")}), registry)
    pool.apply(hosting("a", "a1"))
    await pool.warm_up()
    assert (ready(pool), pool.slots["a1"].state) == ({"a"}, "failed")
    assert "use_dora" in str(pool.slots["a1"].error)


async def test_a_changed_base_takes_its_adapters_along_once_they_are_free(registry: FakeRegistry) -> None:
    loader = Loads({"a": loaded(30)}, {"a1": 1})
    pool = pool_of(loader, registry)
    pool.apply(hosting("a", "a1"))
    async with pool.lease("a1", wait_s=10) as old:
        pool.apply(hosting("a", "a1", sources={"a": "other"}))
        asking = asyncio.create_task(use(pool, "a1"))
        await asyncio.sleep(0.05)
        assert not asking.done()
        assert registry.models == {"a": old.sampler, "a1": old.sampler}, "rows of the old one still run"
    await asking
    assert loader.loads == ["a", "a1", "a", "a1"]


async def test_a_changed_adapter_leaves_its_base_and_its_neighbour_alone(registry: FakeRegistry) -> None:
    loader = Loads({"a": loaded(30)}, {"a1": 1, "a2": 1})
    pool = pool_of(loader, registry)
    pool.apply(hosting("a", "a1", "a2"))
    await pool.warm_up()
    pool.apply(hosting("a", "a1", "a2", sources={"a1": "other"}))
    await use(pool, "a1")
    assert loader.loads == ["a", "a1", "a2", "a1"]
    pool.apply(hosting("a", "a2"))
    await until(lambda: "a1" not in registry.models)
    assert ready(pool) == {"a", "a2"}


async def test_who_was_told_to_come_back_for_an_adapter_finds_its_base(registry: FakeRegistry, clock: Clock) -> None:
    loader = Loads({"a": loaded(60), "b": loaded(60)}, {"a1": 1})
    pool = pool_of(loader, registry, clock=clock)
    pool.apply(hosting("a", "a1", "b"))
    loader.gate.clear()
    with pytest.raises(ModelLoading):
        async with pool.lease("a1", wait_s=0):
            pass
    loader.gate.set()
    await until(lambda: ready(pool) == {"a", "a1"})
    with pytest.raises(ModelLoading):
        async with pool.lease("b", wait_s=0):
            pass
    await until(lambda: pool.slots["b"].memory is not None)
    assert ready(pool) == {"a", "a1"}
    clock.now += 1000
    await use(pool, "b")
    assert ready(pool) == {"b"}
