"""Owns what every part of a plan is written in: seconds, files beside the plan, lengths of prompts and answers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)

Floats = NDArray[np.floating[Any]]
Quantity = Annotated[float, Field(ge=0, allow_inf_nan=False)]
DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(s|m|h|d)")
IN_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
NORMAL = NormalDist()
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def _seconds(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    found = DURATION.fullmatch(value.strip())
    if found is None:
        raise ValueError("write seconds as a number, or a number with its unit: 30s, 5m, 6h, 2d")
    return float(found[1]) * IN_SECONDS[found[2]]


def _beside(path: Path, info: ValidationInfo) -> Path:
    """A path as written in a plan is relative to the plan's folder."""
    whole = Path((info.context or {}).get("folder", ".")) / path
    if not whole.is_file():
        raise ValueError(f"there is no file {whole}")
    return whole


Seconds = Annotated[Quantity, BeforeValidator(_seconds)]
FileBeside = Annotated[Path, AfterValidator(_beside)]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Lengths(Part):
    """How long prompts or answers are, in units: a number, or one of the forms below.

    Two of `mean`, `p50`, `p95` and `p99` give a log-normal distribution; `low` and `high` a uniform one; `exponential`
    is the mean of a memoryless one. What is over `most` is cut there, as `max_tokens` does.
    """

    fixed: Quantity | None = None
    exponential: Quantity | None = None
    low: Quantity | None = None
    high: Quantity | None = None
    mean: Quantity | None = None
    p50: Quantity | None = None
    p95: Quantity | None = None
    p99: Quantity | None = None
    most: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        return {"fixed": value} if isinstance(value, int | float) else value

    @model_validator(mode="after")
    def _one_form(self) -> Lengths:
        given = self.model_fields_set - {"most"}
        if given not in ({"fixed"}, {"exponential"}, {"low", "high"}) and not (
            len(given) == 2 and given <= {"mean", *SHARES}
        ):
            raise ValueError(
                "give a number, or {exponential: MEAN}, or {low, high}, or two of mean, p50, p95, p99; "
                f"got {', '.join(sorted(given)) or 'nothing'}"
            )
        if given == {"low", "high"} and self.low > self.high:  # type: ignore[operator]
            raise ValueError(f"low ({self.low:g}) is over high ({self.high:g})")
        if given <= {"mean", *SHARES}:
            self._log_normal  # noqa: B018  it raises what is wrong
        return self

    @property
    def _log_normal(self) -> tuple[float, float]:
        """Mean and deviation of the logarithm, from two figures.

        A percentile's logarithm is mu + z sigma; that of the mean is mu + sigma^2 / 2.
        """
        known = [(NORMAL.inv_cdf(share), value) for name, share in SHARES.items() if (value := getattr(self, name))]
        if len(known) + bool(self.mean) < 2:
            raise ValueError("the figures of a log-normal distribution are over 0")
        (z, value), (z_1, value_1) = known[0], known[-1]
        if self.mean is None:
            sigma = math.log(value_1 / value) / (z_1 - z)
        elif z * z < 2 * math.log(value / self.mean):
            raise ValueError(f"no log-normal distribution with mean {self.mean:g} has a percentile as high: {value:g}")
        else:
            root = math.sqrt(z * z - 2 * math.log(value / self.mean))
            sigma = z - root if z > 0 else root
        if sigma < 0:
            raise ValueError("the higher percentile, or the mean, is not over the lower figure")
        return math.log(value) - z * sigma, sigma

    @property
    def expected(self) -> float:
        """The mean, what is cut off left out."""
        if self.fixed is not None:
            return min(self.fixed, self.most or math.inf)
        if self.exponential is not None:
            cut = 1 - math.exp(-self.most / self.exponential) if self.most else 1.0
            return self.exponential * cut
        if self.low is not None and self.high is not None:
            return _uniform_mean(self.low, self.high, self.most)
        mu, sigma = self._log_normal
        whole = math.exp(mu + sigma * sigma / 2)
        if self.most is None or sigma == 0:
            return min(whole, self.most or math.inf)
        z = (math.log(self.most) - mu) / sigma
        return whole * NORMAL.cdf(z - sigma) + self.most * (1 - NORMAL.cdf(z))

    def draw(self, rng: np.random.Generator, count: int) -> Sequence[float]:
        if self.fixed is not None:
            drawn = np.full(count, self.fixed)
        elif self.exponential is not None:
            drawn = rng.exponential(self.exponential, count)
        elif self.low is not None and self.high is not None:
            drawn = rng.uniform(self.low, self.high, count)
        else:
            drawn = rng.lognormal(*self._log_normal, count)
        return (drawn if self.most is None else np.minimum(drawn, self.most)).tolist()


def _uniform_mean(low: float, high: float, most: float | None) -> float:
    if most is None or most >= high:
        return (low + high) / 2
    if most <= low:
        return most
    return ((most - low) * (low + most) / 2 + (high - most) * most) / (high - low)
