"""Owns what `/metrics` said of late: the two newest readings of each source, and how fast counters grew between them.

One address may lead to several gateways, and a reading has the counters of one of them. So each is a source of its own,
and so are the replicas, of which every gateway tells the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from prometheus_client.parser import text_string_to_metric_families

Labels = Mapping[str, str]
Key = frozenset[tuple[str, str]]  # labels, as what tells the series of a name apart

REPLICAS = ""
REMOTE = "remote:"  # what begins the replica's name of a model on another server, which each gateway counts for itself
FORGOTTEN_S = 120.0  # a gateway that was not met for so long is gone


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The values of one source. `at` is in seconds, on a clock that only grows."""

    at: float
    values: Mapping[str, Mapping[Key, float]]  # by name and labels


@dataclass(slots=True)
class Scrapes:
    """`at` is when the newest reading was, in seconds on the same clock."""

    at: float = 0.0
    met: str = ""  # the gateway that answered the newest
    _newest: dict[str, Snapshot] = field(default_factory=dict[str, Snapshot])
    _before: dict[str, Snapshot] = field(default_factory=dict[str, Snapshot])

    def take(self, text: str, at: float) -> None:
        """A reading in Prometheus' text format. Raises ValueError if it is not."""
        sources: dict[str, dict[str, dict[Key, float]]] = {REPLICAS: {}}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                values = sources.setdefault(_source(sample.labels), {})
                values.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
        for source, values in sources.items():
            if source in self._newest:
                self._before[source] = self._newest[source]
            self._newest[source] = Snapshot(at, values)
        self.at, self.met = at, next((source for source in sources if source != REPLICAS), "")
        for source in [source for source, newest in self._newest.items() if newest.at < at - FORGOTTEN_S]:
            del self._newest[source]
            self._before.pop(source, None)

    @property
    def gateways(self) -> list[str]:
        return sorted(source for source in self._newest if source != REPLICAS)

    def values(self, name: str, **labels: str) -> list[tuple[Labels, float]]:
        """The newest values of the series that have these labels."""
        return [found for newest in self._newest.values() for found in _matching(newest, name, labels)]

    def rates(self, name: str, **labels: str) -> list[tuple[Labels, float]] | None:
        """How much each of these counters grew in a second; None before any source was read twice."""
        if not self._before:
            return None
        return [found for source in self._before for found in self._growth(source, name, labels)]

    def rate(self, name: str, **labels: str) -> float | None:
        """Of all these counters together."""
        found = self.rates(name, **labels)
        return None if found is None else sum(rate for _, rate in found)

    def quantile(self, share: float, name: str, **labels: str) -> float | None:
        """Of what a histogram observed between the readings, as Prometheus estimates it; None if that is nothing."""
        counts: dict[float, float] = defaultdict(float)
        for found, rate in self.rates(f"{name}_bucket", **labels) or ():
            counts[float(found["le"])] += rate
        return _quantile(share, sorted(counts.items()))

    def _growth(self, source: str, name: str, labels: Labels) -> Iterator[tuple[Labels, float]]:
        before, newest = self._before[source], self._newest[source]
        for found, value in _matching(newest, name, labels):
            # A gateway shows a counter once it counts; a replica's may have been left out of one reading.
            first = 0.0 if "gateway" in found else value
            then = before.values.get(name, {}).get(frozenset(found.items()), first)
            grown = value - then if value >= then else value  # the process began anew
            yield found, grown / (newest.at - before.at)


def _source(labels: Labels) -> str:
    replica = labels.get("replica", "")
    return labels.get("gateway") or (replica.removeprefix(REMOTE) if replica.startswith(REMOTE) else REPLICAS)


def _matching(snapshot: Snapshot, name: str, labels: Labels) -> Iterator[tuple[Labels, float]]:
    for key, value in snapshot.values.get(name, {}).items():
        if labels.items() <= key:
            yield dict(key), value


def _quantile(share: float, counts: list[tuple[float, float]]) -> float | None:
    """Linear within a bucket; beyond the last bound, that bound."""
    total = counts[-1][1] if counts else 0.0
    if not total:
        return None
    for (below, under), (bound, upto) in pairwise([(0.0, 0.0), *counts]):
        if upto >= share * total:
            return (
                below if bound == float("inf") else below + (bound - below) * (share * total - under) / (upto - under)
            )
    return counts[-1][0]
