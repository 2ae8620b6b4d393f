"""Owns a profile as it is written: loads one after the other, what makes an answer good, and the bounds to be kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from loadtests.objectives import Objectives
from loadtests.release.load import Load, Positive
from loadtests.summary import Metric

PROFILES = Path(__file__).parent / "profiles"
Share = Annotated[float, Field(ge=0, le=1)]


class ProfileError(Exception):
    """The profile cannot be used; the message says where it is wrong."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Quantiles(_Part):
    """The most that a quantile may be, in seconds."""

    p50: Positive | None = None
    p95: Positive | None = None
    p99: Positive | None = None


class Bounds(_Part):
    """Of a modality's requests in one load. Shares are of all that came due.

    `goodput`: at least so many are answered within the objectives. `error_budget`: at most so many fail, are cut off,
    are not sent, do not end, or end at their deadline. `refused`: at most so many are told to come again.
    """

    goodput: Share | None = None
    error_budget: Share | None = None
    refused: Share | None = None
    metrics: dict[Metric, Quantiles] = {}


class Stage(_Part):
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    load: Load
    bounds: Annotated[dict[str, Bounds], Field(min_length=1, description="by modality; * is all of them together")]


class Profile(_Part):
    """`tolerance`: how much worse than the last accepted run a figure may be, as a share of it."""

    description: str
    tolerance: Annotated[float, Field(gt=0)] = 0.25
    objectives: Objectives = Objectives({})
    stages: Annotated[list[Stage], Field(min_length=1)]

    @property
    def seconds(self) -> float:
        return sum(stage.load.seconds for stage in self.stages)


def names() -> list[str]:
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def read(name: str) -> Profile:
    """One of ours by its name, or a file. Raises ProfileError."""
    path = PROFILES / f"{name}.yaml" if name in names() else Path(name)
    try:
        return Profile.model_validate(yaml.safe_load(path.read_text()))
    except OSError:
        raise ProfileError(f"no profile {name!r}: one of {', '.join(names())}, or a YAML file") from None
    except yaml.YAMLError as error:
        raise ProfileError(f"{path}: {error}") from None
    except ValidationError as error:
        faults = (f"{path}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ProfileError("\n".join(faults)) from None
