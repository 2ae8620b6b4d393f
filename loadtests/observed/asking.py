"""Owns the asking: every query of every dashboard, with the values that a reader could choose. Never sees HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from loadtests.observed.prometheus import WINDOW_S, Window
from loadtests.observed.questions import ALL, Dashboard, Variable, chosen, substitute
from loadtests.observed.verdict import Answer

# Of what a dashboard is about, that which was used: what has been asked for nothing has nothing to show.
USED: Mapping[str, str] = {
    "model": 'last_over_time(castalia_requests_total{{model!="", status="200"}}[{span}])',
    "tenant": 'last_over_time(castalia_requests_total{{model!="", status="200"}}[{span}])',
    "service": "last_over_time(castalia_steps_total[{span}]) > 0",
}


class Source(Protocol):
    """Whoever knows the series."""

    def lines(self, expr: str, window: Window) -> int: ...
    def label_values(self, label: str, series: str, window: Window) -> list[str]: ...
    def grouped(self, label: str, expr: str, at: float) -> list[str]: ...


def answers(source: Source, boards: Sequence[Dashboard], window: Window) -> list[Answer]:
    return [answer for board in boards for answer in _of(source, board, window)]


def _of(source: Source, board: Dashboard, window: Window) -> Iterator[Answer]:
    """All variables but the last are left at all of their values, as a reader finds them."""
    everything = {variable.name: ALL for variable in board.variables}
    about = board.variables[-1]
    used = _used(source, about, window)
    for variable in board.variables:
        name = f"{board.name}: the choice of ${variable.name}"
        series = substitute(variable.series, everything, window_s=WINDOW_S)
        choices = source.label_values(variable.label, series, window)
        yield Answer(board.name, name, ALL, len(choices))
        if variable is about:
            yield from (Answer(board.name, name, value, int(value in choices)) for value in used)
    values = {value: chosen(about, value) for value in used}
    for value, written in values.items() if about.is_one else {ALL: ALL, **values}.items():
        for target in board.targets:
            expr = substitute(target.expr, {**everything, about.name: written}, window_s=WINDOW_S)
            yield Answer(board.name, target.name, value, source.lines(expr, window))


def _used(source: Source, variable: Variable, window: Window) -> list[str]:
    if variable.label not in USED:
        return []
    span = f"{max(1, round(window.seconds))}s"
    return source.grouped(variable.label, USED[variable.label].format(span=span), window.ended)
