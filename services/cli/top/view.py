"""Owns how a fleet's figures look: tables with bars and sparklines. Never sees HTTP."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from rich import box
from rich.bar import Bar
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from services.cli.printing import plain
from services.cli.top.figures import FleetFigures, GatewayFigures, ModelFigures

SubjectT = TypeVar("SubjectT")
SPARKS = "▁▂▃▄▅▆▇█"
UNBOUNDED = 1000  # columns, more than any table has
REMEMBERED = 12  # readings in a sparkline
STATE_STYLES = {"ready": "green", "loading": "yellow", "failed": "bold red", "cold": "dim"}


def sparkline(values: Sequence[float]) -> str:
    """A block for each value, the greatest's the highest; nothing where all are 0."""
    most = max(values, default=0.0)
    return "".join(SPARKS[round(value / most * (len(SPARKS) - 1))] for value in values) if most else ""


def number(value: float | None) -> str:
    """Three digits; nothing for nothing."""
    if not value:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.3g} s"


def _replicas(model: ModelFigures) -> Text:
    most = "" if model.replicas_max is None else f"/{model.replicas_max}"
    return Text(f"{model.replicas}{most}" if model.service else "", "bold red" if model.replicas_dead else "")


def _batch(model: ModelFigures) -> RenderableType:
    if model.occupancy is None:
        return ""
    bar = Table.grid(padding=(0, 1, 0, 0))
    bar.add_row(Bar(1.0, 0.0, model.occupancy, width=8, color="cyan", bgcolor="grey23"), f"{model.occupancy:.0%}")
    return bar


OF_MODELS: Mapping[str, Callable[[ModelFigures], RenderableType]] = {
    "service": lambda m: plain(m.service, "dim"),
    "model": lambda m: plain(m.model, "bold" if m.rows_running else ""),
    "state": lambda m: plain(m.state, STATE_STYLES.get(m.state, "")),
    "replicas": _replicas,
    "run": lambda m: str(m.rows_running or ""),
    "wait": lambda m: Text(str(m.rows_waiting or ""), "yellow"),
    "batch": _batch,
    "units/s": lambda m: number(m.units_per_s),
    "steps/s": lambda m: number(m.steps_per_s),
    "first p50": lambda m: duration(m.first_chunk_p50_s),
    "p95": lambda m: duration(m.first_chunk_p95_s),
    "predicted": lambda m: duration(m.predicted_wait_s),
    "refused/s": lambda m: Text(number(m.refusals_per_s), "yellow"),
    "errors/s": lambda m: Text(number(m.errors_per_s), "bold red"),
}
OF_GATEWAYS: Mapping[str, Callable[[GatewayFigures], RenderableType]] = {
    "gateway": lambda g: plain(g.gateway),
    "requests/s": lambda g: number(g.requests_per_s),
    "in flight": lambda g: str(g.in_flight),
}
SPARKED = {"units/s", "requests/s"}
LEFT = {"service", "model", "state", "batch", "gateway"}
EXPENDABLE = ("service", "steps/s", "predicted", "p95", "batch", "replicas", "state")  # in turn, where room is scarce


class View:
    """Remembers the last readings for its sparklines."""

    def __init__(self) -> None:
        self._past: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))

    def note(self, figures: FleetFigures) -> None:
        for model in figures.models:
            self._past[model.model].append(model.units_per_s or 0.0)
        for gateway in figures.gateways:
            self._past[gateway.gateway].append(gateway.requests_per_s or 0.0)

    def tables(self, figures: FleetFigures, console: Console) -> RenderableType:
        """With as many of the models' columns as there is room for."""
        columns = dict(OF_MODELS)
        models = self._models(columns, figures)
        unbounded = console.options.update(width=UNBOUNDED)
        for name in EXPENDABLE:
            if console.measure(models, options=unbounded).maximum <= console.width:
                break
            del columns[name]
            models = self._models(columns, figures)
        gateways = _table(OF_GATEWAYS)
        for gateway in figures.gateways:
            gateways.add_row(*self._cells(OF_GATEWAYS, gateway, gateway.gateway))
        return Group(models, gateways)

    def _models(self, columns: Mapping[str, Callable[[ModelFigures], RenderableType]], figures: FleetFigures) -> Table:
        table = _table(columns)
        for model in sorted(figures.models, key=lambda model: not model.service):  # the sleeping ones last
            table.add_row(*self._cells(columns, model, model.model))
        return table

    def _cells(
        self, columns: Mapping[str, Callable[[SubjectT], RenderableType]], subject: SubjectT, name: str
    ) -> Iterable[RenderableType]:
        for column, cell in columns.items():
            yield cell(subject)
            if column in SPARKED:
                yield Text(sparkline(self._past[name]), "cyan")


def _table(columns: Iterable[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, justify="left" if column in LEFT else "right", no_wrap=True)
        if column in SPARKED:
            table.add_column(no_wrap=True)
    return table
