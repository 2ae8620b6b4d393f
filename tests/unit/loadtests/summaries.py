"""Owns a load's summary that tests make up."""

from __future__ import annotations

from datetime import UTC, datetime

from loadtests.summary import Counters, Summary


def summary(sent: int = 100, *, seconds: float = 1200, **counts: int) -> Summary:
    """Of requests that were all answered, but for those that `counts` tells of."""
    return Summary(
        host="http://x",
        started=datetime(2026, 1, 1, tzinfo=UTC),
        seconds=seconds,
        seed=1,
        arrivals="poisson",
        shape=None,
        offered_per_second=1.0,
        generator_cpu_share=0.1,
        groups=[],
        totals=Counters(sent=sent, answered=sent - sum(counts.values()), **counts),
    )
