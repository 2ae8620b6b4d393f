"""Owns counters by name, for what a family counts itself beside what the engine does."""

from __future__ import annotations

from threading import Lock


class Counts:
    """One model's counters, which only grow, from 0 for the `names`. Every method is safe from any thread."""

    def __init__(self, *names: str) -> None:
        self._lock = Lock()
        self._totals = dict.fromkeys(names, 0.0)

    def add(self, **amounts: float) -> None:
        with self._lock:
            for name, amount in amounts.items():
                self._totals[name] = self._totals.get(name, 0.0) + amount

    def snapshot(self) -> dict[str, float]:
        with self._lock:
            return dict(self._totals)
