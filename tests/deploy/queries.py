"""Owns reading what PromQL expressions ask for: metrics, labels that select, labels that group."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import promql_parser
import yaml

OBSERVABILITY = Path(__file__).parents[2] / "deploy" / "observability"
RULES = OBSERVABILITY / "rules"
DASHBOARDS = OBSERVABILITY / "dashboards"
SCRAPED = frozenset({"job", "namespace"})  # what Prometheus, or the chart's ScrapeConfig, adds to every series
OF_PROMETHEUS = {"ALERTS": frozenset({"alertname", "alertstate", "severity"})}
Series = Mapping[str, frozenset[str]]


def rules(name: str) -> list[dict[str, Any]]:
    """Every rule of a file of rules."""
    groups = yaml.safe_load((RULES / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboards() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def panel_queries() -> Iterator[str]:
    """Every expression of a panel, with something in place of each of Grafana's variables."""
    for dashboard in dashboards().values():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield re.sub(r"\$\w+", lambda match: "5m" if "interval" in match[0] else "x", target["expr"])


def recorded() -> Series:
    """What the recording rules give, by name, with its labels: those that a rule groups by, and those that it sets."""
    found: dict[str, frozenset[str]] = {}
    for rule in rules("recording.yaml"):
        found[rule["record"]] = frozenset(rule["labels"]) | grouped(rule["expr"])
    return found


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    """Every series that an expression asks for. Raises ValueError for what is no PromQL."""
    found: list[promql_parser.VectorSelector] = []

    def note(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        return True

    assert promql_parser.walk(promql_parser.parse(expression), note)
    return found


def grouped(expression: str) -> frozenset[str]:
    """The labels that an expression groups or matches by."""
    names = re.findall(r"\b(?:by|on) \(([^)]*)\)", expression)
    return frozenset(name.strip() for each in names for name in each.split(",")) - {"le"}


def unknown(expression: str, shown: Series) -> list[str]:
    """What an expression asks for that there is not: series, labels that select, labels that group."""
    asked = [(each.name or "", {matcher.name for matcher in each.matchers.matchers}) for each in selectors(expression)]
    known = {**shown, **OF_PROMETHEUS}
    found = [name for name, _ in asked if name not in known]
    found += [
        f"{name}{{{label}}}"
        for name, labels in asked
        for label in sorted(labels - known.get(name, frozenset()) - SCRAPED - {"__name__"})
    ]
    carried = SCRAPED.union(*(known.get(name, frozenset()) for name, _ in asked))
    return found + sorted(grouped(expression) - carried)
