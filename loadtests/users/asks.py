"""Owns what every modality says of itself, and what it is given to draw a request. Never sees a socket."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Annotated, Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, Field

from loadtests.generator.answers import Reader
from loadtests.prompts import Inputs
from loadtests.traffic.lengths import Draw
from shared.schemas.common import RequestModel
from shared.schemas.items import Value

Thing = str | dict[str, Value]


class Target(BaseModel):
    """A model that can be asked. `context` is in tokens, where it is known: once a model has been loaded.

    `given`: things that the model may be asked about (images, records, texts), made by itself where it makes any.
    `masks`: of each image in `given`, one that lets a part of it change.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    context: Annotated[int | None, Field(ge=1)] = None
    given: tuple[Thing, ...] = ()
    masks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request is drawn from. `lengths` are of text."""

    target: Target
    rng: Random
    lengths: Draw
    inputs: Inputs
    ignore_eos: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Of text, what is only given where it is asked for."""
        return {"ignore_eos": True} if self.ignore_eos else {}

    def streams(self) -> bool:
        """Drawn anew each time: half of those answers stream that may also come whole."""
        return self.rng.random() < 0.5


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as its schema checks it, so that a wrong body cannot be sent, and who reads the answer."""

    request: RequestModel
    reader: Reader

    @property
    def body(self) -> bytes:
        return self.request.model_dump_json(exclude_unset=True).encode()


class Modality(Protocol):
    """One of the gateway's operations, by its task in /v1/models.

    `piece`: what an answer is made of, as the rows of Locust's table call it. `about_given`: whether a request is about
    a thing, so that a target must have some.
    """

    task: ClassVar[str]
    path: ClassVar[str]
    piece: ClassVar[str]
    about_given: ClassVar[bool]

    @staticmethod
    def draw(wish: Wish) -> Ask: ...
