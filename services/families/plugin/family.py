"""Owns the way from a name in models.yaml to a sampler that is not of this tree. Never sees what it computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from services.engine.contract import Sampler, Task
from services.families import LoadedModel
from services.nn.errors import UnsupportedModel
from shared.config.plugin import PluginModel


class PluginSampler(Sampler[Any, Any, Any], Protocol):
    """What the class in `sampler:` is: a sampler that also says what it does and takes.

    It is called with the model's entry of models.yaml and the verified folder of its weights, on a worker thread.
    """

    @property
    def tasks(self) -> Mapping[str, Task[Any, Any, Any, Any]]:
        """By name: those that the entry lists, at least."""
        ...

    @property
    def memory(self) -> int:
        """Bytes at most: weights, and a full batch."""
        ...

    @property
    def limits(self) -> Mapping[str, float]:
        """What `/v1/models` tells of it."""
        ...


def load(config: PluginModel, folder: Path) -> LoadedModel:
    """Import the class and make its sampler.

    Raises UnsupportedModel: nothing of that name can be imported, or it lacks a task that models.yaml lists.
    """
    sampler = _named(config.sampler)(config, folder)
    if lacking := [task for task in config.tasks if task not in sampler.tasks]:
        raise UnsupportedModel(config.sampler, f"it has no task {', '.join(lacking)}, which models.yaml lists")
    return LoadedModel(
        sampler=sampler,
        tasks={task: sampler.tasks[task] for task in config.tasks},
        memory=sampler.memory,
        limits=sampler.limits,
        revision=config.revision,
    )


def _named(reference: str) -> Callable[[PluginModel, Path], PluginSampler]:
    module, _, name = reference.partition(":")
    try:
        return cast(Callable[[PluginModel, Path], PluginSampler], getattr(import_module(module), name))
    except (ImportError, AttributeError) as error:
        raise UnsupportedModel(reference, f"it cannot be imported: {error}") from error
