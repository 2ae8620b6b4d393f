"""Owns what Grafana would ask: dashboards and recording rules as they are written, with values for their variables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ALL = ".*"  # what Grafana puts in the place of a variable that is set to all of its values
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_CHOICES = re.compile(r"label_values\((.+), (\w+)\)")
_SPECIAL = re.compile(r"[\\^$*+?.()|\[\]{}]")


class UnknownVariable(Exception):
    """An expression holds a variable that has no value."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A reader chooses among the values that `label` has in `series`: one of these if `is_one`, else at first all."""

    name: str
    series: str
    label: str
    is_one: bool


@dataclass(frozen=True, slots=True)
class Target:
    """One line of a panel, or several of a kind. `name` tells it from all others."""

    name: str
    expr: str


@dataclass(frozen=True, slots=True)
class Dashboard:
    """`variables` in the order in which they are chosen: the last is what the dashboard is about."""

    name: str
    variables: tuple[Variable, ...]
    targets: tuple[Target, ...]


def dashboards(folder: Path) -> list[Dashboard]:
    """Every dashboard of a folder. Raises ValueError for a variable that is not made of a label's values."""
    return [_dashboard(path.stem, json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]


def recorded(file: Path) -> list[str]:
    """The names that a file of rules records."""
    return [rule["record"] for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


def substitute(text: str, values: Mapping[str, str], *, window_s: float) -> str:
    """Grafana's variables replaced. `window_s` is `$__rate_interval`: at least four scrapes. Raises UnknownVariable."""
    known = {**values, "__rate_interval": f"{window_s:g}s"}

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in known:
            raise UnknownVariable(f"${name} in {text}")
        return known[name]

    return _VARIABLE.sub(value, text)


def chosen(variable: Variable, value: str) -> str:
    """One value as Grafana writes it: a pattern where several may be chosen, in a string of PromQL's."""
    return value if variable.is_one else _SPECIAL.sub(lambda match: rf"\\{match[0]}", value)


def _dashboard(name: str, written: Mapping[str, Any]) -> Dashboard:
    variables = tuple(_variable(each) for each in written["templating"]["list"] if each["type"] == "query")
    return Dashboard(name, variables, tuple(target for panel in written["panels"] for target in _targets(name, panel)))


def _variable(written: Mapping[str, Any]) -> Variable:
    query = written["query"]["query"]
    if (match := _CHOICES.fullmatch(query)) is None:
        raise ValueError(f"the choices of ${written['name']} are no label's values: {query}")
    return Variable(written["name"], match[1], match[2], is_one=not written["includeAll"])


def _targets(dashboard: str, panel: Mapping[str, Any]) -> Iterator[Target]:
    targets: Sequence[Mapping[str, str]] = panel["targets"]
    for target in targets:
        name = f"{dashboard}: {panel['title']}"
        yield Target(f"{name} ({_said(target)})" if len(targets) > 1 else name, target["expr"])


def _said(target: Mapping[str, str]) -> str:
    """What the legend says beside the labels' values; the target's letter where it says nothing."""
    return re.sub(r"\{\{\w+\}\}", "", target["legendFormat"]).strip(" :") or target["refId"]
