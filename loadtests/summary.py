"""Owns the form of a load test's summary: one JSON file, whatever the number of workers. Never sees Locust."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Metric = Literal["time_to_first_s", "between_chunks_s", "end_to_end_s", "queue_s", "lag_s"]
BUSY_GENERATOR = 0.8  # of a CPU
Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Distribution(_Part):
    """Seconds. A metric that was never measured is left out of its group, so that no count is 0."""

    count: Annotated[int, Field(ge=1)]
    mean: float
    p50: float
    p95: float
    p99: float
    max: float


class Counters(_Part):
    """Of what was `sent`: how much was answered, refused ..., and the rest was in flight when the test ended.

    `unsent` is beyond it: due, but over `--max-in-flight`. `good` of the answered kept the objectives.
    """

    sent: Count = 0
    answered: Count = 0
    refused: Count = 0  # 429 and 503
    late: Count = 0  # 504: the gateway gave up at the deadline
    truncated: Count = 0  # a stream that ended before it said so
    failed: Count = 0
    unsent: Count = 0
    good: Count = 0

    @property
    def in_flight(self) -> int:
        """Sent, and without an end when the test ended."""
        return self.sent - self.answered - self.refused - self.late - self.truncated - self.failed

    @classmethod
    def total(cls, parts: Iterable[Counters]) -> Counters:
        listed = list(parts)
        return cls(**{name: sum(getattr(part, name) for part in listed) for name in cls.model_fields})


class Group(Counters):
    """What one model did of one modality."""

    modality: str
    model: str
    units: Annotated[float, Field(ge=0)] = 0.0  # of the answered: tokens of text, images, items of a list, sounds
    metrics: dict[Metric, Distribution] = {}

    @property
    def counters(self) -> Counters:
        return Counters(**{name: getattr(self, name) for name in Counters.model_fields})


class Summary(_Part):
    format: Literal[1] = 1
    host: str
    started: datetime  # UTC
    seconds: Annotated[float, Field(ge=0)]
    seed: int | None
    arrivals: str
    shape: str | None
    offered_per_second: Annotated[float, Field(ge=0)]  # that came due, sent or not
    # CPU seconds of a wall second, of the busiest process.
    generator_cpu_share: Annotated[float, Field(ge=0)]
    groups: list[Group]
    totals: Counters

    @property
    def generator_is_busy(self) -> bool:
        """Whether the generator, and not the fleet, may be what was measured."""
        return self.generator_cpu_share > BUSY_GENERATOR

    @classmethod
    def read(cls, path: Path) -> Summary:
        return cls.model_validate_json(path.read_text())

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.model_dump_json(indent=2) + "\n")

    def of(self, modality: str) -> list[Group]:
        return [group for group in self.groups if group.modality == modality]
