"""Owns the sum of outcomes: counters and histograms of one process, and the sum of those of many.

Histograms are HDR: counts in buckets a thousandth wide, which add up exactly, whichever process an outcome was of.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hdrh.histogram import HdrHistogram

from loadtests.outcomes import Outcome, Verdict
from loadtests.summary import Counters, Distribution, Group, Metric

MICROSECONDS = 1e6
LONGEST_S = 86_400
DIGITS = 3


class Meter:
    """Seconds: their count, sum and maximum, and their quantiles to a thousandth."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, int(LONGEST_S * MICROSECONDS), DIGITS)
        self._sum = 0.0
        self._max = 0.0

    def record(self, seconds: float) -> None:
        """Raises ValueError beyond a day."""
        if seconds > LONGEST_S:
            raise ValueError(f"a time of {seconds:g} s; at most {LONGEST_S} s can be recorded")
        self._histogram.record_value(max(0, round(seconds * MICROSECONDS)))
        self._sum += seconds
        self._max = max(self._max, seconds)

    def dump(self) -> list[Any]:
        return [self._histogram.encode(), self._sum, self._max]

    def add(self, dumped: list[Any]) -> None:
        encoded, total, most = dumped
        self._histogram.decode_and_add(encoded)
        self._sum += total
        self._max = max(self._max, most)

    def distribution(self) -> Distribution:
        quantiles = self._histogram.get_percentile_to_value_dict([50, 95, 99])
        # A bucket stands for its upper end, which may lie over the largest value in it.
        p50, p95, p99 = (min(quantiles[percent] / MICROSECONDS, self._max) for percent in (50, 95, 99))
        count = self._histogram.get_total_count()
        return Distribution(count=count, mean=self._sum / count, p50=p50, p95=p95, p99=p99, max=self._max)


@dataclass(slots=True)
class _Sum:
    """Of one model's outcomes of one modality."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(Counters.model_fields, 0))
    units: float = 0.0
    meters: dict[Metric, Meter] = field(default_factory=dict[Metric, Meter])

    def meter(self, metric: Metric) -> Meter:
        if metric not in self.meters:
            self.meters[metric] = Meter()
        return self.meters[metric]

    def measure(self, outcome: Outcome) -> None:
        """What a person waits for is measured of answers alone: a refusal is quick, and would flatter the rest."""
        self.meter("lag_s").record(outcome.lag_s)
        if not outcome.answered:
            return
        self.meter("end_to_end_s").record(outcome.end_to_end_s)
        if outcome.time_to_first_s is not None:
            self.meter("time_to_first_s").record(outcome.time_to_first_s)
        if outcome.reply.queue_s is not None:
            self.meter("queue_s").record(outcome.reply.queue_s)
        for gap in outcome.gaps:
            self.meter("between_chunks_s").record(gap)


class Tally:
    """By modality and model."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], _Sum] = {}
        self.due = 0  # requests, sent or not

    def sent(self, modality: str, model: str) -> None:
        self.due += 1
        self._of(modality, model).counts["sent"] += 1

    def unsent(self, modality: str, model: str) -> None:
        self.due += 1
        self._of(modality, model).counts["unsent"] += 1

    def ended(self, outcome: Outcome, *, good: bool) -> None:
        """After `sent`, once."""
        found = self._of(outcome.modality, outcome.model)
        verdict: Verdict = outcome.reply.verdict
        found.counts[verdict] += 1
        found.counts["good"] += good
        found.units += outcome.units if outcome.answered else 0
        found.measure(outcome)

    def dump(self) -> dict[str, Any]:
        """As a message to another process takes it."""
        groups = [
            [*key, found.counts, found.units, {name: meter.dump() for name, meter in found.meters.items()}]
            for key, found in self._sums.items()
        ]
        return {"due": self.due, "groups": groups}

    def add(self, dumped: dict[str, Any]) -> None:
        self.due += dumped["due"]
        for modality, model, counts, units, meters in dumped["groups"]:
            found = self._of(modality, model)
            for name, count in counts.items():
                found.counts[name] += count
            found.units += units
            for name, meter in meters.items():
                found.meter(name).add(meter)

    def groups(self) -> list[Group]:
        return [
            Group(
                modality=modality,
                model=model,
                units=found.units,
                metrics={name: meter.distribution() for name, meter in sorted(found.meters.items())},
                **found.counts,
            )
            for (modality, model), found in sorted(self._sums.items())
        ]

    def _of(self, modality: str, model: str) -> _Sum:
        key = modality, model
        if key not in self._sums:
            self._sums[key] = _Sum()
        return self._sums[key]
