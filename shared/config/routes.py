"""Owns `routes:` of models.yaml: names that stand for models, and how requests for them are shared out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import Field

from shared.config.base import ConfigModel, ModelEntry, PublicName

Affinity = Literal["session", "prefix", "none"]


class RouteTarget(ConfigModel):
    """A model that answers `weight` of all targets' weights together."""

    model: PublicName
    weight: float = Field(default=1, gt=0, le=1e9)


class MirrorTarget(ConfigModel):
    """A model that gets a copy of this share of the requests. Its answers are dropped."""

    model: PublicName
    share: float = Field(default=1, gt=0, le=1)


class RouteConfig(ConfigModel):
    """A name that clients may ask for as for a model: an alias, a split, what stands in for what.

    With affinity, requests that belong together meet the same target and the same of its replicas, for as long as that
    one is not much busier than the others: those of a session, or those whose prompts begin alike.
    """

    name: PublicName
    targets: tuple[RouteTarget, ...] = Field(min_length=1)
    fallbacks: tuple[PublicName, ...] = Field(
        default=(), description="models to ask in turn while a target loads, is overloaded or fails before it answers"
    )
    mirror: MirrorTarget | None = None
    affinity: Affinity = "none"

    def common_tasks(self, models: Mapping[str, ModelEntry]) -> tuple[str, ...]:
        """What every target does, in the order of the first."""
        first, *others = (models[target.model].does for target in self.targets)
        return tuple(task for task in first if all(task in does for does in others))

    def places(self) -> Iterator[tuple[str, str]]:
        """Every model that it names, with the path of the field that does."""
        for i, target in enumerate(self.targets):
            yield f"targets.{i}.model", target.model
        for i, model in enumerate(self.fallbacks):
            yield f"fallbacks.{i}", model
        if self.mirror is not None:
            yield "mirror.model", self.mirror.model


def check_routes(routes: Sequence[RouteConfig], models: Mapping[str, ModelEntry]) -> None:
    """Raises ValueError, which names the field by path: a name that is taken, a model that is none or cannot help.

    A route leads to models, never to routes, so that none leads back to itself.
    """
    names: set[str] = set()
    for i, route in enumerate(routes):
        if route.name in models or route.name in names:
            owner = "a model" if route.name in models else "another route"
            raise ValueError(f"routes.{i}.name: {owner} is named {route.name!r} already")
        names.add(route.name)
    for i, route in enumerate(routes):
        for path, model in route.places():
            if model not in models:
                why = "is a route, and a route leads to models" if model in names else "is no model"
                raise ValueError(f"routes.{i}.{path}: {model!r} {why}")
        _check_twice(route, i)
        _check_tasks(route, i, models)


def _check_twice(route: RouteConfig, i: int) -> None:
    """A fallback may be a target as well: it stands in for the others."""
    targets = [target.model for target in route.targets]
    for where, named in (("targets", targets), ("fallbacks", list(route.fallbacks))):
        if twice := sorted({model for model in named if named.count(model) > 1}):
            raise ValueError(f"routes.{i}.{where}: named more than once: {', '.join(twice)}")
    if route.mirror is not None and route.mirror.model in targets:
        raise ValueError(f"routes.{i}.mirror.model: {route.mirror.model!r} is a target, which answers itself")


def _check_tasks(route: RouteConfig, i: int, models: Mapping[str, ModelEntry]) -> None:
    common = route.common_tasks(models)
    if not common:
        raise ValueError(f"routes.{i}.targets: there is no task that all of them do")
    for path, model in route.places():
        if not set(common) & set(models[model].does):
            raise ValueError(f"routes.{i}.{path}: {model!r} does nothing of what the targets do: {', '.join(common)}")
