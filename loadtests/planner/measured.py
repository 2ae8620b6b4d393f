"""Owns the form in which loads on a live fleet are written down, to be compared with what the planner predicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, ValidationInfo, model_validator

from loadtests.planner.forms import FileBeside, Part, Quantity, Seconds
from loadtests.planner.plan import Load
from loadtests.planner.rates import Rate
from loadtests.planner.steady import Arrivals, Recorded, Steady
from loadtests.summary import Group, Summary
from loadtests.traffic.trace import read_trace


class Seen(Part):
    """What the fleet did. Answers a second are of those that ended in the measured time, times of those sent in it."""

    answered_per_second: Rate
    time_to_first_p95_s: Seconds
    end_to_end_p95_s: Seconds | None = None
    refused: Annotated[float, Field(ge=0, le=1)] | None = None


class Point(Part):
    """One constant load on so many replicas: a rate, or clients that each wait for their answer before they ask again.

    Or a `trace`, the very requests that were sent (loadtests/traffic/trace.py): two draws of one rate differ by more
    than the planner does, in a minute near capacity. With `summary`, a load test's file, its rate, duration and figures
    need not be written again.
    """

    replicas: Annotated[int, Field(ge=1)]
    per_second: Quantity = 0.0
    clients: Annotated[int, Field(ge=0)] = 0
    trace: FileBeside | None = None
    arrivals: Arrivals = "poisson"
    seconds: Annotated[Seconds, Field(gt=0)]
    warm_s: Seconds = 0.0
    seen: Seen

    @model_validator(mode="before")
    @classmethod
    def _with_summary(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, dict) or "summary" not in value:
            return value
        given = dict(value)
        return _of_summary(Path((info.context or {}).get("folder", ".")) / given.pop("summary"), given)

    @model_validator(mode="after")
    def _one_load(self) -> Point:
        if (self.per_second > 0) + (self.clients > 0) + (self.trace is not None) != 1:
            got = f"{self.per_second:g}, {self.clients} and {self.trace or 'none'}"
            raise ValueError(f"give one of per_second, clients and trace; got {got}")
        self.requests  # noqa: B018  it raises what is wrong
        return self

    @cached_property
    def requests(self) -> Sequence[Recorded]:
        return [] if self.trace is None else recorded(self.trace)

    @property
    def offered_per_second(self) -> float:
        """Requests a second of an open loop, after the warm-up; nan of clients, who wait."""
        if self.clients:
            return math.nan
        counted = sum(self.warm_s <= at <= self.warm_s + self.seconds for at, _, _ in self.requests)
        return self.per_second or counted / self.seconds

    @property
    def steady(self) -> Steady:
        return Steady(
            replicas=self.replicas,
            seconds=self.seconds,
            warm_s=self.warm_s,
            per_second=self.per_second,
            clients=self.clients,
            requests=self.requests,
            arrivals=self.arrivals,
            most=self.replicas,
        )

    @property
    def label(self) -> str:
        load = f"{self.clients} clients" if self.clients else f"{self.offered_per_second:.3g}/s"
        return f"{load} on {self.replicas} replica{'s' * (self.replicas > 1)}"


class Measurements(Part):
    name: str = "Measured loads"
    load: Load
    points: Annotated[list[Point], Field(min_length=1)]

    @model_validator(mode="after")
    def _readable(self) -> Measurements:
        has_prompts = any(prompt for point in self.points for _, prompt, _ in point.requests)
        if has_prompts and self.load.rates.prompt_units_per_second is None:
            raise ValueError("a trace has prompts, but rates.prompt_units_per_second is not given")
        return self


def recorded(path: Path) -> Sequence[Recorded]:
    """The requests of a trace. Raises ValueError: it is none, or a line leaves a length to be drawn."""
    found: list[Recorded] = []
    for each in read_trace(path):
        if each.prompt_tokens is None or each.output_tokens is None:
            raise ValueError(f"{path}: the request at {each.at:g} s lacks prompt_tokens or output_tokens")
        found.append((each.at, each.prompt_tokens, each.output_tokens))
    if not found:
        raise ValueError(f"{path}: no request is in it")
    return found


def _of_summary(path: Path, given: dict[str, Any]) -> dict[str, Any]:
    """What a point says, and what a load test's summary adds. Raises ValueError."""
    try:
        summary = Summary.read(path)
    except (OSError, ValidationError) as error:
        raise ValueError(f"{path}: {error}") from error
    if len(summary.groups) != 1:
        raise ValueError(f"{path}: a point is of one model; got {len(summary.groups)}")
    is_said = "clients" in given or "trace" in given
    if summary.arrivals != "poisson" and not is_said:
        raise ValueError(
            f"{path}: arrivals are {summary.arrivals!r}, not 'poisson': "
            "say how many clients there were, or give the trace"
        )
    group = summary.groups[0]
    load = {} if is_said else {"per_second": summary.offered_per_second}
    return {"seconds": summary.seconds, **load, "seen": _seen(group, summary.seconds, path), **given}


def _seen(group: Group, seconds: float, path: Path) -> dict[str, Any]:
    first, whole = group.metrics.get("time_to_first_s"), group.metrics.get("end_to_end_s")
    if first is None:
        raise ValueError(f"{path}: no time to first was measured")
    return {
        "answered_per_second": group.answered / seconds,
        "time_to_first_p95_s": first.p95,
        "end_to_end_p95_s": None if whole is None else whole.p95,
        "refused": group.refused / group.sent,
    }
