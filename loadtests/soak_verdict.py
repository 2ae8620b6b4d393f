"""Owns the judgement of a soak: what grew, what was left over, what failed. Never sees a process or a fleet."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from loadtests.saturated import Goal, plain
from loadtests.soak_samples import Sample, Usage
from loadtests.summary import BUSY_GENERATOR, Summary

FLEET = "all of the fleet"
EDGE = 0.1  # of the samples: what the level at the start and at the end is the median of
GROWTH = 0.02  # of the median
RESOLUTION = 2**20  # bytes: the kernel adds up the pages that each CPU counts once they are many
SLACK = 2  # files, threads
SOCKETS_SLACK = 4  # two idle connections that HAProxy keeps to the gateway, by both of their ends
BROKEN = ("failed", "truncated", "late", "refused", "unsent", "in_flight")


@dataclass(frozen=True, slots=True)
class Soak:
    """All that was measured. `holds` is the rate that the fleet was found to hold; None: the rate was given.

    Rates are requests a second; `before` and `after` are of the fleet at rest.
    """

    rate: float
    holds: float | None
    summary: Summary
    samples: Sequence[Sample]
    before: Sample
    after: Sample


@dataclass(frozen=True, slots=True)
class Level:
    """What there was at the start and at the end, and the most that there may be then."""

    start: float
    end: float
    most: float


@dataclass(frozen=True, slots=True)
class Course:
    """What became of a role over the load. `memory` is its median, `growth` its trend over the load, both in bytes."""

    role: str
    memory: float
    growth: float
    files: Level
    threads: Level
    sockets: Level  # at rest, before and after the load: under load they follow the connections of clients

    @property
    def growth_share(self) -> float:
        return self.growth / self.memory if self.memory else 0.0

    @property
    def goals(self) -> Iterator[Goal]:
        most = max(GROWTH * self.memory, RESOLUTION)
        yield Goal(f"{self.role}: growth of memory, MiB", self.growth / 2**20, most / 2**20, is_least=False)
        for name, level in (("files", self.files), ("threads", self.threads), ("sockets", self.sockets)):
            yield Goal(f"{self.role}: {name} at the end", level.end, level.most, is_least=False)


def trend(seconds: Sequence[float], values: Sequence[float]) -> float:
    """By how much the values rise from the first second to the last: the slope of Theil and Sen, times that span.

    It is the median of the slopes of all pairs, so that a few values may be anything. nan, which keeps no bound, of
    less than two values.
    """
    points = list(zip(seconds, values, strict=True))
    slopes = [(late - early) / (end - start) for (start, early), (end, late) in combinations(points, 2)]
    return median(slopes) * (seconds[-1] - seconds[0]) if slopes else math.nan


def edges(values: Sequence[float]) -> tuple[float, float]:
    """The levels at the start and at the end."""
    count = max(1, round(EDGE * len(values)))
    return median(values[:count]), median(values[-count:])


def courses(soak: Soak) -> list[Course]:
    """Of the whole fleet, then of each role."""
    fleet = _course(FLEET, soak, [sample.fleet for sample in soak.samples], soak.before.fleet, soak.after.fleet)
    roles = sorted({role for sample in (*soak.samples, soak.before, soak.after) for role in sample.roles})
    return [fleet, *(_role_course(role, soak) for role in roles)]


def goals(soak: Soak, found: Sequence[Course]) -> list[Goal]:
    """All that the soak has to keep: of its requests, of the fleet at rest after it, and of each course."""
    totals, summary = soak.summary.totals, soak.summary
    return [
        Goal("requests sent", totals.sent, 1, is_least=True),
        *(Goal(f"requests {name.replace('_', ' ')}", getattr(totals, name), 0, is_least=False) for name in BROKEN),
        Goal("load generator's CPU share", summary.generator_cpu_share, BUSY_GENERATOR, is_least=False),
        *(
            Goal(f"{name.replace('_', ' ')} at rest after the load", left, 0, is_least=False)
            for name, left in plain(soak.after.work).items()
        ),
        *(goal for course in found for goal in course.goals),
    ]


def _role_course(role: str, soak: Soak) -> Course:
    def of(sample: Sample) -> Usage:
        return sample.roles.get(role, Usage())

    return _course(role, soak, [of(sample) for sample in soak.samples], of(soak.before), of(soak.after))


def _course(role: str, soak: Soak, usages: Sequence[Usage], before: Usage, after: Usage) -> Course:
    seconds = [sample.second for sample in soak.samples]
    memory = [usage.memory for usage in usages]
    files = edges([usage.files for usage in usages])
    threads = edges([usage.threads for usage in usages])
    return Course(
        role,
        memory=median(memory),
        growth=trend(seconds, memory),
        files=Level(*files, files[0] + SLACK),
        threads=Level(*threads, threads[0] + SLACK),
        sockets=Level(before.sockets, after.sockets, before.sockets + SOCKETS_SLACK),
    )
