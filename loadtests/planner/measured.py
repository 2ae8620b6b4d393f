"""Owns the form in which loads on a live fleet are written down, to be compared with what the planner predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, ValidationInfo, model_validator

from loadtests.planner.forms import Part, Quantity, Seconds
from loadtests.planner.plan import Load
from loadtests.planner.rates import Rate
from loadtests.planner.steady import Arrivals, Steady
from loadtests.summary import Group, Summary


class Seen(Part):
    """What the fleet did. Answers a second are of those that ended in the measured time, times of those sent in it."""

    answered_per_second: Rate
    time_to_first_p95_s: Seconds
    end_to_end_p95_s: Seconds | None = None
    refused: Annotated[float, Field(ge=0, le=1)] | None = None


class Point(Part):
    """One constant load on so many replicas: a rate, or clients that each wait for their answer before they ask again.

    With `summary`, a load test's file, its rate, duration and figures need not be written again.
    """

    replicas: Annotated[int, Field(ge=1)]
    per_second: Quantity = 0.0
    clients: Annotated[int, Field(ge=0)] = 0
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
        if (self.per_second > 0) == (self.clients > 0):
            raise ValueError(f"give per_second or clients; got {self.per_second:g} and {self.clients}")
        return self

    @property
    def steady(self) -> Steady:
        return Steady(
            replicas=self.replicas,
            seconds=self.seconds,
            warm_s=self.warm_s,
            per_second=self.per_second,
            clients=self.clients,
            arrivals=self.arrivals,
            most=self.replicas,
        )

    @property
    def label(self) -> str:
        load = f"{self.clients} clients" if self.clients else f"{self.per_second:g}/s"
        return f"{load} on {self.replicas} replica{'s' * (self.replicas > 1)}"


class Measurements(Part):
    name: str = "Measured loads"
    load: Load
    points: Annotated[list[Point], Field(min_length=1)]


def _of_summary(path: Path, given: dict[str, Any]) -> dict[str, Any]:
    """What a point says, and what a load test's summary adds. Raises ValueError."""
    try:
        summary = Summary.read(path)
    except (OSError, ValidationError) as error:
        raise ValueError(f"{path}: {error}") from error
    if len(summary.groups) != 1:
        raise ValueError(f"{path}: a point is of one model; got {len(summary.groups)}")
    if summary.arrivals != "poisson" and "clients" not in given:
        raise ValueError(f"{path}: arrivals are {summary.arrivals!r}, not 'poisson': say how many clients there were")
    group = summary.groups[0]
    load = {} if "clients" in given else {"per_second": summary.offered_per_second}
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
