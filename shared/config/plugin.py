"""Owns the configuration of samplers that come from outside this tree: named by module, as operators trust them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field, JsonValue

from shared.config.base import ModelConfig, ServiceConfig
from shared.config.costs import rows_of

PluginTask = Literal[
    "image",
    "edit",
    "variation",
    "interpolation",
    "score",
    "embedding",
    "reconstruction",
    "record",
    "level",
    "molecule",
    "music",
    "forecast",
    "speech",
    "sound",
]
Word = Annotated[str, Field(pattern=r"^[a-z][a-z_]{0,63}$")]


class PluginModel(ModelConfig):
    """A model whose sampler is a class of the operator's own, importable on every replica."""

    TASKS: ClassVar = ()
    MODALITIES: ClassVar = ()

    sampler: str = Field(
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$",
        description="my_package.my_module:MySampler, which is called with this entry and the folder of its weights",
    )
    tasks: tuple[PluginTask, ...] = Field(min_length=1)
    modalities: tuple[Word, ...] = ()
    row_cost: float = Field(default=1, gt=0, description="the most units of work that an image or an item takes")
    options: dict[str, JsonValue] = Field(default={}, description="whatever the sampler reads")

    @property
    def does(self) -> tuple[str, ...]:
        return self.tasks

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        return rows_of(body) * self.row_cost


class PluginService(ServiceConfig):
    family: Literal["plugin"]
    models: tuple[PluginModel, ...] = Field(min_length=1)
