"""Owns the comparison of a configuration's parts, before and after: what was added, removed or changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Unit = tuple[str, str]  # a kind, and a name
Entry = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Change:
    """One part of a configuration that differs; `fields` are the options that do, if it was and is there."""

    what: str
    kind: str
    name: str
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.what:<8} {self.kind} {self.name}" + (f": {', '.join(self.fields)}" if self.fields else "")


def compare(before: Mapping[Unit, Entry], after: Mapping[Unit, Entry]) -> list[Change]:
    """In the order of `before`, and what is new last."""
    found: list[Change] = []
    for unit in [*before, *(unit for unit in after if unit not in before)]:
        was, now = before.get(unit), after.get(unit)
        if was is None or now is None:
            found.append(Change("added" if was is None else "removed", *unit))
        elif fields := tuple(sorted(key for key in was.keys() | now.keys() if was.get(key) != now.get(key))):
            found.append(Change("changed", *unit, fields))
    return found
