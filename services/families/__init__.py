"""The table of families, and what each gives: a function that turns a checkpoint folder into a loaded model.

The names of families appear in their folders, in their configuration schemas, and here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from services.engine.contract import Sampler, Task
from services.engine.counts import Counts
from shared.config.base import LocalModel

FAMILIES: Mapping[str, str] = {
    "autoregressive": "services.families.autoregressive.family:load",
    "boltzmann": "services.families.boltzmann.family:load",
    "diffusion": "services.families.diffusion.family:load",
    "ebm": "services.families.ebm.family:load",
    "flow": "services.families.flow.family:load",
    "gan": "services.families.gan.family:load",
    "neural_ode": "services.families.neural_ode.family:load",
    "pixelcnn": "services.families.pixelcnn.family:load",
    "plugin": "services.families.plugin.family:load",
    "recurrent": "services.families.recurrent.family:load",
    "transformer": "services.families.transformer.family:load",
    "vae": "services.families.vae.family:load",
    "vits": "services.families.vits.family:load",
}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to serve. `memory` is what it may take at most: weights, caches and growth, in bytes.

    `adapt` loads a model that is this one changed by an adapter, where the family has such: its sampler is this one's.
    `counts`: what the family counts of it; `/metrics` shows the names in `services.gateway.replica_metrics.COUNTED`.
    """

    sampler: Sampler[Any, Any, Any]
    tasks: Mapping[str, Task[Any, Any, Any, Any]]
    memory: int
    limits: Mapping[str, float]
    revision: str
    adapt: Load | None = None
    counts: Counts = field(default_factory=Counts)


Load = Callable[[LocalModel, Path], LoadedModel]


def family_loader(family: str) -> Load:
    """Import a family on demand, so that a replica pays for its own family alone."""
    module, _, name = FAMILIES[family].partition(":")
    return cast(Load, getattr(import_module(module), name))
