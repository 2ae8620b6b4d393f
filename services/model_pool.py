"""Owns which of a service's models are loaded: loads, leases and evictions. Never sees a request or a tensor.

A model is loaded on a worker thread while its neighbours keep stepping, and handed to the engine between two steps.
A model that is another one changed by an adapter is loaded upon that one, its base, and is gone before it.
Loads happen one at a time, so that what they take is counted before the next begins; they wait for room outside that
turn, since another model may fit meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from services.collector import Collector, collect
from services.engine.contract import Sampler
from services.engine.errors import ModelBusy
from services.families import Load, LoadedModel
from services.model_slot import ModelSlot
from shared.config.models import HostedService
from shared.errors import ModelLoading, ModelNotFound

log = logging.getLogger(__name__)

BUSY_RETRY_S = 0.02  # a row that was aborted leaves at the next step boundary
ROOM_RECHECK_S = 0.5  # that a model is no longer wanted is no event


class Registry(Protocol):
    """The part of the engine that the pool uses.

    `base`: of which model the sampler is. `unregister` raises ModelBusy while the model has rows, or is a base.
    """

    async def register(self, model: str, sampler: Sampler[Any, Any, Any], *, base: str | None = None) -> None: ...
    async def unregister(self, model: str) -> None: ...


class ModelTooLarge(Exception):
    """The model alone needs more than its service has: loading it again cannot help."""


class ModelPool:
    """The models of one service on one replica. Every method belongs to one event loop.

    `resolve` finds a source's verified folder and `loader` a family's load function; both run on worker threads.
    The memory of the loaded models, by their own account, stays within the service's `resources.memory`; only models
    that nobody wants (`ModelSlot.is_wanted`) are evicted, the least recently used first.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        resolve: Callable[[str], Path],
        loader: Callable[[str], Load],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._resolve = resolve
        self._loader = loader
        self._clock = clock
        self._budget = 0
        self._slots: dict[str, ModelSlot] = {}
        self._leaving: dict[ModelSlot, asyncio.Task[None]] = {}  # replaced or removed; they count until they are gone
        self._load_turn = asyncio.Lock()
        self._collector = Collector()
        self._changed = asyncio.Event()  # set whenever a user left or memory was freed

    @property
    def slots(self) -> Mapping[str, ModelSlot]:
        return self._slots

    def apply(self, service: HostedService) -> None:
        """Host exactly this service's models. Atomic, and without effect when nothing changed.

        Removed and changed models leave when their leases end; changed ones are loaded again when next asked for.
        A model changes with its base.
        """
        slots: dict[str, ModelSlot] = {}
        for config in sorted(service.models, key=lambda config: config.based_on is not None):
            base = None if config.based_on is None else slots[config.based_on]
            old = self._slots.get(config.id)
            if old is None or (old.family, old.config, old.base) != (service.family, config, base):
                old = ModelSlot(service.family, config, base, counted={} if old is None else old.counts)
            slots[config.id] = old
        slots = {config.id: slots[config.id] for config in service.models}
        gone = [slot for model, slot in self._slots.items() if slots.get(model) is not slot]
        if (budget := int(service.resources.memory)) != self._budget:
            for slot in slots.values():
                slot.forgive()  # what was too large may fit now
        self._budget, self._slots = budget, slots
        for slot in gone:
            self._leaving[slot] = asyncio.create_task(self._retire(slot))
        self._changed.set()

    async def warm_up(self) -> None:
        """Load models in the order of the configuration as far as they fit beside each other. Raises nothing."""
        for slot in list(self._slots.values()):
            if self._hosts(slot) and slot.state == "cold":
                await asyncio.wait({self._start(slot)})

    @asynccontextmanager
    async def lease(self, model: str, *, wait_s: float) -> AsyncGenerator[LoadedModel, None]:
        """Hold a model, loading it first if need be: it stays registered until the lease ends.

        Raises ModelNotFound; ModelLoading (503) with the predicted rest if the model is not ready within `wait_s`
        seconds, or while its last failure stands; Overloaded if it can never fit this service.
        """
        slot = self._slots.get(model)
        if slot is None:
            raise ModelNotFound(model)
        slot.enter()
        try:
            loaded = slot.loaded or await self._load_within(slot, wait_s)
            slot.wanted_until = 0.0
            yield loaded
        finally:
            slot.leave(self._clock())
            self._changed.set()

    async def close(self) -> None:
        """Cancel what is still loading or leaving; ready models stay as they are."""
        loading = [slot.loading for slot in self._slots.values() if slot.loading is not None]
        tasks = [*loading, *self._leaving.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _load_within(self, slot: ModelSlot, wait_s: float) -> LoadedModel:
        deadline = self._clock() + wait_s
        while slot.loaded is None:
            now = self._clock()
            slot.check_retry(now)
            if not self._hosts(slot):
                raise ModelLoading(f"Model '{slot.config.id}' is being replaced.", retry_after=1)
            load = self._start(slot)
            if slot.cannot_load_within(deadline - now, now):
                retry_after = slot.want_back(now)
                raise ModelLoading(f"Model '{slot.config.id}' is loading.", retry_after=retry_after)
            await asyncio.wait({load}, timeout=deadline - now)
        return slot.loaded

    def _start(self, slot: ModelSlot) -> asyncio.Task[None]:
        """Begin a load, or join the one that runs. The task raises nothing: the slot holds the outcome."""
        if slot.loading is None:
            slot.began_at = None
            slot.loading = asyncio.create_task(self._load(slot))
        return slot.loading

    async def _load(self, slot: ModelSlot) -> None:
        try:
            folder, _ = await asyncio.gather(
                asyncio.to_thread(self._verified, slot), asyncio.to_thread(self._import, slot)
            )
            slot.weight_bytes = await asyncio.to_thread(_weight_bytes, folder)
            await self._predecessor_left(slot)
            await self._load_from(folder, slot)
        except Exception as error:
            slot.fail(error, self._clock(), permanent=isinstance(error, ModelTooLarge))
            log.exception("model %s failed to load, %d times in a row", slot.config.id, slot.failures)
        finally:
            slot.loading = None
            self._changed.set()

    def _verified(self, slot: ModelSlot) -> Path:
        """The folder of its checked weights."""
        folder = self._resolve(slot.config.weights)
        log.info("weights of model %s are verified", slot.config.id)
        return folder

    def _import(self, slot: ModelSlot) -> None:
        with self._collector.paused():
            self._loader(slot.family)
        log.info("family %s is imported", slot.family)

    async def _load_from(self, folder: Path, slot: ModelSlot) -> None:
        """Load once there is room. A model that turns out larger than the room made for it is dropped and loaded again.

        Without effect if there is no room and nobody wants the model, or if it is no longer hosted.
        """
        while slot.loaded is None and await self._is_base_ready(slot):
            async with self._load_turn:
                if await self._make_room(slot):
                    await self._fill_room(folder, slot)
                    continue
            if not self._hosts(slot) or not slot.is_wanted(self._clock()):
                return
            await self._change(ROOM_RECHECK_S)

    async def _is_base_ready(self, slot: ModelSlot) -> bool:
        """Whether the model's base is loaded, after loading it if need be; True of a model without one.

        False if that had no effect. Raises as `ModelSlot.check_retry` if the base cannot be loaded.
        """
        base = slot.base
        if base is None or base.loaded is not None:
            return True
        if not self._hosts(base):
            return False
        base.check_retry(self._clock())
        await asyncio.wait({self._start(base)})
        base.check_retry(self._clock())
        return base.loaded is not None

    async def _fill_room(self, folder: Path, slot: ModelSlot) -> None:
        load = self._load_function(slot)
        slot.began_at = self._clock()
        with self._collector.paused():
            loaded = await asyncio.to_thread(load, slot.config, folder)
        slot.memory = loaded.memory
        if self._hosts(slot) and loaded.memory <= self._free:
            await self._registry.register(slot.config.id, loaded.sampler, base=slot.config.based_on)
            slot.succeed(loaded, self._clock())
            log.info("model %s is ready after %.1f s", slot.config.id, slot.load_s)
            return
        slot.began_at = None
        del loaded
        await asyncio.to_thread(collect)

    def _load_function(self, slot: ModelSlot) -> Load:
        if slot.base is None:
            return self._loader(slot.family)
        if slot.base.loaded is None or slot.base.loaded.adapt is None:
            raise TypeError(f"{slot.base.config.id} takes no adapter")
        return slot.base.loaded.adapt

    async def _predecessor_left(self, slot: ModelSlot) -> None:
        """Wait until what served under this id before is gone: an id is registered once."""
        while self._hosts(slot) and any(old.config.id == slot.config.id for old in self._leaving):
            await self._change()

    async def _make_room(self, slot: ModelSlot) -> bool:
        """Evict until the slot's model has room, if it is wanted and that is enough. Whether it has room now."""
        while self._hosts(slot) and (slot.base is None or slot.base.loaded is not None):
            most = self._budget - (0 if slot.base is None else slot.base.memory or 0)
            if slot.memory is not None and slot.memory > most:
                raise ModelTooLarge(f"it needs {slot.memory:,} bytes, and its service has {most:,}")
            now = self._clock()
            expected = slot.expected_memory if slot.is_wanted(now) else self._likely_memory(slot)
            needed = min(expected, most)
            if needed <= self._free:
                return True
            idle = [other for other in self._slots.values() if other is not slot.base and self._is_idle(other, now)]
            if not slot.is_wanted(now) or needed > self._free + sum(other.memory or 0 for other in idle):
                return False
            bases = {id(other.base) for other in idle}
            await self._evict(min((each for each in idle if id(each) not in bases), key=lambda each: each.last_used))
        return False

    def _is_idle(self, slot: ModelSlot, now: float) -> bool:
        """Whether the model is loaded and nobody wants it, nor a model that is loaded upon it."""
        upon = (other for other in self._slots.values() if other.base is slot and other.loaded is not None)
        return slot.loaded is not None and not any(each.is_wanted(now) for each in (slot, *upon))

    def _likely_memory(self, slot: ModelSlot) -> int:
        """What a load that nobody waits for will take, lest it be in vain: beside weights, as much as a neighbour."""
        wholes = [other for other in self._slots.values() if other.loaded is not None and other.base is None]
        others = [other for other in wholes if other.weight_bytes]
        if slot.memory is not None or slot.base is not None or not others:
            return slot.expected_memory
        return slot.expected_memory + min((other.memory or 0) - (other.weight_bytes or 0) for other in others)

    def _hosts(self, slot: ModelSlot) -> bool:
        """Whether the slot was neither replaced nor removed."""
        return self._slots.get(slot.config.id) is slot

    async def _change(self, timeout_s: float | None = None) -> None:
        self._changed.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_s)

    @property
    def _free(self) -> int:
        held = [*self._slots.values(), *self._leaving]
        return self._budget - sum(slot.memory or 0 for slot in held if slot.loaded is not None)

    async def _evict(self, slot: ModelSlot) -> None:
        # Cold before the first await: a lease asked for meanwhile loads the model again, behind this load.
        slot.unload()
        await self._unregister(slot)
        log.info("model %s was evicted", slot.config.id)

    async def _retire(self, slot: ModelSlot) -> None:
        while slot.users or slot.loading is not None:
            await self._change()
        if slot.loaded is not None:
            await self._unregister(slot)
            slot.loaded = None
        del self._leaving[slot]
        self._changed.set()
        await asyncio.to_thread(collect)

    async def _unregister(self, slot: ModelSlot) -> None:
        while True:
            try:
                await self._registry.unregister(slot.config.id)
            except ModelBusy:
                await asyncio.sleep(BUSY_RETRY_S)
            else:
                break
        await asyncio.to_thread(collect)


def _weight_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for kind in ("*.safetensors", "*.onnx") for path in folder.glob(kind))
