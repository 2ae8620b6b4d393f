"""Owns a plan as it is written: services with measured rates, their devices, their traffic, and what is promised."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import yaml
from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, model_validator
from pydantic_core import ErrorDetails

from loadtests.planner.forms import Lengths, Part, Quantity, Seconds
from loadtests.planner.rates import Rates, Speeds
from loadtests.planner.traffic import Source
from shared.config.base import ReplicaRange, Resources

Read = TypeVar("Read", bound=Part)
CHUNK = 1024


class PlanError(Exception):
    """The plan, or a file that it names, cannot be used: the message says where, and what is wrong."""


class Node(Part):
    """A service has nodes of its own; one is paid for from the moment it is asked for until it has been empty."""

    devices: Annotated[int, Field(ge=1)] = 1
    start_s: Seconds = Field(default=0.0, description="until a new node has its devices and the image")
    idle_s: Seconds = Field(default=600.0, description="how long more nodes than needed stay")


class Objectives(Part):
    """A request is served well if it keeps all that is given. `attainment` is the share that should."""

    wait_s: Seconds | None = None
    time_to_first_s: Seconds | None = None
    end_to_end_s: Seconds | None = None
    attainment: Annotated[float, Field(gt=0, lt=1)] = 0.99

    @model_validator(mode="after")
    def _promises(self) -> Objectives:
        if self.wait_s is self.time_to_first_s is self.end_to_end_s is None:
            raise ValueError("give at least one of wait_s, time_to_first_s, end_to_end_s")
        return self


def _rates(value: Any, info: ValidationInfo) -> Any:
    """Rates as they stand in the plan, or those of the file that it names."""
    if not isinstance(value, str):
        return value
    path = Path((info.context or {}).get("folder", ".")) / value
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


class Load(Part):
    """What one replica does, and what it is asked for: all that a load of constant rate needs."""

    rates: Annotated[Rates, BeforeValidator(_rates)]
    prompt: Lengths = Field(default=Lengths(fixed=0), description="units of a prompt that are not cached")
    output: Lengths = Field(description="units of an answer")
    max_wait_s: Annotated[Seconds, Field(gt=0)] = 60.0
    deadline_s: Annotated[Seconds, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _measured(self) -> Load:
        if self.prompt.expected > 0 and self.rates.prompt_units_per_second is None:
            raise ValueError("prompts have a length, but rates.prompt_units_per_second is not given")
        if self.prompt.expected + self.output.expected <= 0:
            raise ValueError("neither prompts nor answers have a length: there is nothing to do")
        return self

    @cached_property
    def speeds(self) -> Speeds:
        return Speeds.of(self.rates)

    @cached_property
    def capacity(self) -> float:
        """Requests a second of one full replica."""
        return 1 / self.speeds.work_of(self.prompt.expected, self.output.expected)

    @cached_property
    def alone_s(self) -> float:
        """Seconds from a mean request's start to its end in a full replica."""
        return self.speeds.alone_s(self.prompt.expected, self.output.expected)

    def lengths(self, rng: np.random.Generator) -> Iterator[tuple[float, float]]:
        """Prompts and answers of one request after the other, without end."""
        while True:
            yield from zip(self.prompt.draw(rng, CHUNK), self.output.draw(rng, CHUNK), strict=True)


class Service(Load):
    """`replicas` and `resources` are as in models.yaml."""

    name: str = Field(pattern=r"^[a-z]([a-z0-9-]{0,40}[a-z0-9])?$")
    replicas: ReplicaRange
    first_replicas: Annotated[int, Field(ge=0)] | None = Field(default=None, description="that run at the beginning")
    start_s: Seconds = Field(description="until a new replica serves, on a node that is there")
    resources: Resources = Resources()
    node: Node | None = None
    price_per_device_hour: Quantity | None = None
    objectives: Objectives
    traffic: Annotated[list[Source], Field(min_length=1)]

    @property
    def share(self) -> float:
        """Devices of a replica, or the part of one. A replica without a device is counted as one."""
        return self.resources.device_share or 1.0

    @property
    def replicas_per_node(self) -> int:
        """Without a node's size: replicas that share a device, or one on as many devices as it takes."""
        devices = math.ceil(self.share) if self.node is None else self.node.devices
        return int(devices // self.share) if self.share >= 1 else devices * int(1 / self.share + 1e-9)

    @model_validator(mode="after")
    def _placeable(self) -> Service:
        if self.share > 1 and self.share % 1:
            raise ValueError(f"a replica takes a part of one device or whole ones; got {self.share:g}")
        if self.node is not None and self.replicas_per_node == 0:
            raise ValueError(f"a replica takes {self.share:g} devices, a node has {self.node.devices}")
        return self


class Plan(Part):
    name: str = "Plan"
    hours: Annotated[float, Field(gt=0, le=31 * 24)] = 24.0
    services: Annotated[list[Service], Field(min_length=1)]

    @property
    def seconds(self) -> int:
        return max(1, round(self.hours * 3600))

    @model_validator(mode="after")
    def _unlike_names(self) -> Plan:
        names = [service.name for service in self.services]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"each service has a name of its own; more than once: {', '.join(sorted(twice))}")
        return self


def read_plan(path: Path) -> Plan:
    """Raises PlanError."""
    return read(path, Plan)


def read(path: Path, kind: type[Read]) -> Read:
    """A YAML or JSON file as `kind`; names of files in it are relative to its folder. Raises PlanError."""
    try:
        raw = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PlanError(f"{path}: {error}") from error
    try:
        return kind.model_validate(raw, context={"folder": path.parent})
    except ValidationError as error:
        raise PlanError("\n".join(f"{path}: {_fault(fault)}" for fault in error.errors(include_url=False))) from error


def _fault(fault: ErrorDetails) -> str:
    where = ".".join(map(str, fault["loc"])) or "top level"
    got = fault["input"]
    is_short = isinstance(got, str | int | float) or got is None
    return f"{where}: {fault['msg']}" + (f"; got {got!r}" if is_short else "")
