"""A service without Ray, torch or checkpoints: its models are the contract suite's fake sampler, and a task for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from services.engine.contract import Sampler
from services.engine.errors import ModelBusy
from services.families import Load, LoadedModel
from services.model_pool import ModelPool
from shared.config.base import ModelConfig
from shared.config.models import FleetConfig, HostedService
from shared.errors import InvalidRequest
from shared.events import TextDelta
from shared.schemas.text import DetokenizeRequest
from tests.contract.fake import FakeParams, FakeSampler

MIB = 2**20


def service(*models: str, memory: int = 100, **changes: Any) -> HostedService:
    """A service entry; memory is in MiB. A model may be given as `id` or `id=source`."""
    entries = [{"id": name.partition("=")[0], "source": f"file://{name.partition('=')[2] or name}"} for name in models]
    entry = {"name": "chat", "family": "transformer", "models": entries, "resources": {"memory": memory * MIB}}
    return FleetConfig.model_validate({"services": [{**entry, **changes}]}).hosted[0]


@dataclass
class FakeTask:
    """A `DetokenizeRequest`'s tokens become the rows: each token is the number of steps of one row."""

    encodes_slowly: ClassVar[bool] = False

    changes: dict[str, Any] = field(default_factory=dict[str, Any])
    salts: list[str] = field(default_factory=list[str])  # of every call

    def prepare(self, request: DetokenizeRequest, salt: str = "") -> Sequence[FakeParams]:
        self.salts.append(salt)
        if not request.tokens:
            raise InvalidRequest("tokens is empty", param="tokens")
        if request.tokens == [666]:
            raise ValueError("a secret prompt")
        return [FakeParams(seed=i, steps=steps, **self.changes) for i, steps in enumerate(request.tokens)]

    def encode(self, chunk: int) -> TextDelta:
        return TextDelta(f"{chunk} ", prompt_tokens=1, completion_tokens=1)


def loaded(memory: int = 10, sampler: FakeSampler | None = None, **changes: Any) -> LoadedModel:
    """A model of so many MiB, whose rows are `FakeParams` with these changes."""
    return LoadedModel(
        sampler=sampler or FakeSampler(),
        tasks={"generate": FakeTask(changes)},
        memory=memory * MIB,
        limits={"context_length": 256},
        revision="r1",
    )


@dataclass
class Loader:
    """Loads what `models` gives for an id: a model, or an exception to raise. A load waits while `gate` is closed."""

    models: dict[str, LoadedModel | Exception]
    loads: list[str] = field(default_factory=list[str])
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def __call__(self, family: str) -> Load:
        return self._load

    def _load(self, config: ModelConfig, folder: Path) -> LoadedModel:
        self.loads.append(config.id)
        assert self.gate.wait(10)
        model = self.models[config.id]
        if isinstance(model, Exception):
            raise model
        return model


@dataclass
class FakeRegistry:
    """The engine as the pool sees it. Unregistering a model in `busy` raises ModelBusy once, and a base always."""

    models: dict[str, Sampler[Any, Any, Any]] = field(default_factory=dict[str, Sampler[Any, Any, Any]])
    busy: set[str] = field(default_factory=set[str])
    registered: list[str] = field(default_factory=list[str])  # ever
    bases: dict[str, str | None] = field(default_factory=dict[str, "str | None"])

    async def register(self, model: str, sampler: Sampler[Any, Any, Any], *, base: str | None = None) -> None:
        assert model not in self.models, "registered twice"
        assert base is None or self.models[base] is sampler, "an adapter's rows are not in its base's hands"
        self.bases[model] = base
        self.models[model] = sampler
        self.registered.append(model)

    async def unregister(self, model: str) -> None:
        if model in self.busy:
            self.busy.discard(model)
            raise ModelBusy(model)
        if model in [self.bases[other] for other in self.models]:
            raise ModelBusy(model)
        del self.models[model]


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def pool_of(
    loader: Loader, registry: FakeRegistry, *, clock: Callable[[], float] | None = None, folder: Path = Path("/none")
) -> ModelPool:
    resolve: Callable[[str], Path] = lambda source: folder  # noqa: E731
    return ModelPool(registry, resolve=resolve, loader=loader, **({"clock": clock} if clock else {}))


async def until(condition: Callable[[], object]) -> None:
    """Let other tasks and threads go on until the condition holds; the test's own time limit is the bound."""
    while not condition():  # noqa: ASYNC110 - what is awaited here happens on threads that know no event
        await asyncio.sleep(0.001)
