"""Owns the sum of a whole test, over all processes, and its summary. Never sees Locust."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from loadtests.generator.options import LoadOptions
from loadtests.generator.tally import Tally
from loadtests.summary import Counters, Summary


class Collector:
    """One test's."""

    def __init__(self, host: str, options: LoadOptions) -> None:
        self._host, self._options = host, options
        self._tally = Tally()
        self._cpu_share = 0.0
        self._started = datetime.now(UTC)
        self._began = time.monotonic()
        self._seconds: float | None = None

    def add(self, taken: dict[str, Any]) -> None:
        """What `Process.take` gave."""
        self._tally.add(taken)
        self._cpu_share = max(self._cpu_share, taken["cpu_share"])

    def stop(self) -> None:
        """Nothing more comes due; what is in flight may still end."""
        if self._seconds is None:
            self._seconds = time.monotonic() - self._began

    def summary(self) -> Summary:
        self.stop()
        seconds = self._seconds or 0.0
        groups = self._tally.groups()
        return Summary(
            host=self._host,
            started=self._started,
            seconds=seconds,
            seed=self._options.seed,
            arrivals=self._options.kind_of_arrivals,
            shape=self._options.shape,
            offered_per_second=self._tally.due / seconds if seconds else 0.0,
            generator_cpu_share=self._cpu_share,
            groups=groups,
            totals=Counters.total(group.counters for group in groups),
        )


def doubts(summary: Summary) -> list[str]:
    """What makes the figures less than they seem."""
    found: list[str] = []
    totals = summary.totals
    if unknown := totals.in_flight:
        found.append(f"{unknown} requests were still in flight when the test ended: --stop-timeout gives them longer")
    if totals.unsent:
        found.append(f"{totals.unsent} requests were due and not sent: --max-in-flight, or more processes")
    if summary.generator_is_busy:
        share = summary.generator_cpu_share
        found.append(f"a process of the load took {share:.0%} of a CPU: --processes or more workers share the work")
    return found
