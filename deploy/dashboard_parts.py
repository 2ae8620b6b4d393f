"""Owns how a Grafana dashboard is written down: queries, panels in two columns, variables. Never sees what is shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT = 12, 8  # of a panel, in Grafana's units: a dashboard is 24 wide
SCHEMA = 39  # Grafana's version of the format, of its release 10.4
SEEN = "2m"  # each scrape meets one gateway: what was last seen of the others


@dataclass(frozen=True, slots=True)
class Query:
    """`legend` names each line by its labels, as `{{model}}`."""

    expr: str
    legend: str = ""

    def named(self, name: str) -> Query:
        """With a name in front of the labels."""
        return replace(self, legend=f"{name} {self.legend}".strip())

    def over(self, other: Query) -> Query:
        return replace(self, expr=f"{self.expr} / {other.expr}")


@dataclass(frozen=True, slots=True)
class Scope:
    """The series that a dashboard's variables leave. Metrics are named without their `castalia_`."""

    matchers: str

    def where(self, matcher: str) -> Scope:
        return Scope(f"{self.matchers}, {matcher}")

    def rate(self, counter: str, *by: str) -> Query:
        """Its growth a second."""
        return Query(self._sum(f"rate({self._series(counter)}[$__rate_interval])", by), _legend(by))

    def total(self, gauge: str, *by: str) -> Query:
        """What it is now, summed."""
        return Query(self._sum(self._series(gauge), by), _legend(by))

    def largest(self, gauge: str, *by: str) -> Query:
        return Query(f"max by ({', '.join(by)}) ({self._series(gauge)})", _legend(by))

    def last_seen(self, gauge: str, *by: str) -> Query:
        """As `total`, of a gauge of the gateways' own."""
        return Query(self._sum(f"last_over_time({self._series(gauge)}[{SEEN}])", by), _legend(by))

    def quantile(self, share: float, histogram: str, *by: str) -> Query:
        """What this share of the observations stayed below."""
        inner = self.rate(f"{histogram}_bucket", *by, "le").expr
        return Query(f"histogram_quantile({share}, {inner})", _legend(by)).named(f"p{100 * share:g}")

    def quantiles(self, histogram: str, *by: str) -> tuple[Query, Query]:
        return self.quantile(0.5, histogram, *by), self.quantile(0.95, histogram, *by)

    def recorded(self, rule: str, *labels: str) -> Query:
        """What a recording rule gives, by the labels that it has. Rules are named without their `castalia:`."""
        return Query(f"castalia:{rule}{{{self.matchers}}}", _legend(labels))

    def _series(self, metric: str) -> str:
        return f"castalia_{metric}{{{self.matchers}}}"

    def _sum(self, inner: str, by: Sequence[str]) -> str:
        return f"sum by ({', '.join(by)}) ({inner})" if by else f"sum ({inner})"


def _legend(labels: Sequence[str]) -> str:
    return " ".join(f"{{{{{label}}}}}" for label in labels)


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines over time. `unit` is Grafana's name of one: `s`, `bytes`, `short` for a plain number ..."""

    title: str
    unit: str
    queries: tuple[Query, ...]


def panel(title: str, unit: str, *queries: Query) -> Panel:
    return Panel(title, unit, queries)


@dataclass(frozen=True, slots=True)
class Variable:
    """What a reader may choose: values of a label of a metric. `is_one`: one of these at a time, not all."""

    name: str
    metric: str
    label: str
    is_one: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    """`name` is the file's, and part of the dashboard's address in Grafana."""

    name: str
    title: str
    variables: tuple[Variable, ...]
    panels: tuple[Panel, ...]


def as_json(dashboard: Dashboard) -> str:
    """The file that Grafana loads."""
    source = {"name": "datasource", "type": "datasource", "query": "prometheus"}
    variables = [_variable(each, dashboard.variables[:i]) for i, each in enumerate(dashboard.variables)]
    whole = {
        "title": f"Castalia: {dashboard.title}",
        "uid": f"castalia-{dashboard.name}",
        "tags": ["castalia"],
        "schemaVersion": SCHEMA,
        "editable": True,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [source, *variables]},
        "panels": [_panel(i, panel) for i, panel in enumerate(dashboard.panels)],
    }
    return json.dumps(whole, indent=1) + "\n"


def _variable(variable: Variable, before: Sequence[Variable]) -> dict[str, Any]:
    """Its choices are those that what was chosen before leaves."""
    matchers = ", ".join(f'{each.label}=~"${each.name}"' for each in before)
    query = {"query": f"label_values({variable.metric}{{{matchers}}}, {variable.label})", "refId": variable.name}
    shape = {"name": variable.name, "type": "query", "datasource": SOURCE, "query": query, "refresh": 2}
    if variable.is_one:
        return {**shape, "includeAll": False, "multi": False}
    everything = {"text": "All", "value": "$__all"}
    return {**shape, "includeAll": True, "multi": True, "allValue": ".*", "current": everything}


def _panel(index: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(index, 2)
    return {
        "id": index + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": {"h": HEIGHT, "w": WIDTH, "x": WIDTH * column, "y": HEIGHT * row},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + i), "datasource": SOURCE, "expr": query.expr, "legendFormat": query.legend}
            for i, query in enumerate(panel.queries)
        ],
    }
