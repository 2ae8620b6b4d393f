"""Owns what `loadtests.overhead` found, and its form as tables: medians of rounds, and what is added to the engine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Literal

from loadtests.peers.fleet import Fleet
from loadtests.report import machine
from loadtests.tables import Row, Table, mid

Kind = Literal["whole", "stream"]
Quantile = Literal["first_p50", "first_p99", "end_p50", "end_p99"]
IN_PROCESS, FLEET = "the engine in process", Fleet.name
TITLES: dict[Kind, str] = {"whole": "One small JSON object", "stream": "A stream of 16 events"}
PARTS = {  # of a fleet, by the roles of its processes
    "HAProxy": "HAProxy",
    "gateway": "gateway",
    "replica": "replica",
    "rest of Ray": "rest of Ray (controller, raylet, ...)",
}


@dataclass(slots=True)
class Figures:
    """One server asked in one way by so many clients, a value a round. Times are seconds; `cpu_us` is by role."""

    first_p50: list[float] = field(default_factory=list)
    first_p99: list[float] = field(default_factory=list)
    end_p50: list[float] = field(default_factory=list)
    end_p99: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    client_cpu_share: list[float] = field(default_factory=list)
    cpu_us: dict[str, list[float]] = field(default_factory=dict)  # microseconds a request

    @property
    def all_cpu_us(self) -> list[float]:
        """Of all roles together, a value a round."""
        return [sum(parts) for parts in zip(*self.cpu_us.values(), strict=True)]


@dataclass(frozen=True, slots=True)
class Cell:
    """One way to ask, one number of clients, one server."""

    kind: Kind
    clients: int
    server: str


@dataclass(slots=True)
class Overheads:
    """Everything that was measured. `options` are the command's, `seconds` what it took."""

    options: str = ""
    load_before: float = 0.0
    seconds: float = 0.0
    cells: dict[Cell, Figures] = field(default_factory=dict)

    def at(self, cell: Cell) -> Figures:
        return self.cells.setdefault(cell, Figures())

    def added(self, cell: Cell, quantile: Quantile) -> list[float]:
        """What a server adds to the work itself, in seconds, a value a round.

        The fleet's work is what the engine takes in process; the others do none, and all of their time is added.
        """
        found: list[float] = getattr(self.cells[cell], quantile)
        if cell.server != FLEET:
            return found
        bare: list[float] = getattr(self.cells[Cell(cell.kind, cell.clients, IN_PROCESS)], quantile)
        return [server - engine for server, engine in zip(found, bare, strict=True)]


def tables(results: Overheads) -> list[Table]:
    every = [*(_latencies(results, kind) for kind in TITLES), _parts(results)]
    return [table for table in every if table.rows]


def write(results: Overheads, folder: Path, what: str) -> Path:
    """Write overhead.md and overhead.json; return the path of the first. `what` says what was measured."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = machine() | {"load average before the run": f"{results.load_before:.1f}"}
    cells = [asdict(cell) | asdict(figures) for cell, figures in results.cells.items()]
    body = {"machine": facts, "options": results.options, "seconds": results.seconds, "cells": cells}
    (folder / "overhead.json").write_text(json.dumps(body, indent=1) + "\n")
    lines = ["# Overhead", "", what.strip(), ""]
    command = f"python -m loadtests.overhead {results.options}".strip()
    lines += [f"`{command}`: {results.seconds:.0f} s, medians of interleaved rounds, and their range.", ""]
    lines += [*(f"- {key}: {value}" for key, value in facts.items()), ""]
    lines += [table.section for table in tables(results)]
    path = folder / "overhead.md"
    path.write_text("\n".join(lines))
    return path


def _latencies(results: Overheads, kind: Kind) -> Table:
    first = ("first event p50, p99 (ms)",) if kind == "stream" else ()
    head = ("clients", "server", *first, "end p50 (ms)", "end p99 (ms)", "added p50 (ms)", "added p99 (ms)")
    head += ("requests/s", "CPU us a request", "client CPU")
    rows = [_latency_row(results, cell) for cell in results.cells if cell.kind == kind]
    return Table(TITLES[kind], head, rows)


def _latency_row(results: Overheads, cell: Cell) -> Row:
    figures = results.cells[cell]
    first = (f"{_ms(figures.first_p50)}, {_ms(figures.first_p99)}",) if cell.kind == "stream" else ()
    added = ("", "")
    if cell.server != IN_PROCESS:
        added = _ms(results.added(cell, "end_p50")), _ms(results.added(cell, "end_p99"))
    ends = _ms(figures.end_p50), _ms(figures.end_p99)
    rates = mid(figures.per_second), mid(figures.all_cpu_us), f"{median(figures.client_cpu_share):.0%}"
    return (str(cell.clients), cell.server, *first, *ends, *added, *rates)


def _parts(results: Overheads) -> Table:
    """Of whichever servers have processes with roles to tell apart: the fleet."""
    rows = [
        (TITLES[cell.kind].lower(), str(cell.clients), PARTS[role], mid(spent))
        for cell, figures in results.cells.items()
        for role, spent in figures.cpu_us.items()
        if role in PARTS
    ]
    return Table("What the fleet spends", ("answer", "clients", "part", "CPU us a request"), rows)


def _ms(seconds: Sequence[float]) -> str:
    return mid([1e3 * value for value in seconds], 1)
