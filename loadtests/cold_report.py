"""Owns what `loadtests.cold` found, and its form: medians and ranges of rounds, phases, and what was aimed at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Literal, get_args

from loadtests.cold_phases import MODEL_COLD, REPLICA_COLD
from loadtests.peers.cold_servers import ColdFleet, PlainServe
from loadtests.report import machine
from loadtests.saturated import Goal
from loadtests.tables import Row, Table, mid

Case = Literal["replica cold", "replica warm, model cold", "replica and model warm"]
COLD: Case = "replica cold"
RELOAD: Case = "replica warm, model cold"
WARM: Case = "replica and model warm"
FLEET, PLAIN = ColdFleet.name, PlainServe.name
AIMS_S: Mapping[Case, float] = {RELOAD: 3.0, COLD: 5.0}  # at most, to the first token


@dataclass(frozen=True, slots=True)
class Cell:
    case: Case
    server: str


@dataclass(slots=True)
class Starts:
    """One case of one server, a value a round. Seconds."""

    first_token_s: list[float] = field(default_factory=list[float])
    phases: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    def take(self, first_token_s: float, phases: Mapping[str, float]) -> None:
        self.first_token_s.append(first_token_s)
        for phase, seconds in phases.items():
            self.phases.setdefault(phase, []).append(seconds)


@dataclass(slots=True)
class Results:
    """What was measured. `options` are the command's, `seconds` what it took; `missing` says why, by server."""

    options: str = ""
    load_before: float = 0.0
    seconds: float = 0.0
    cells: dict[Cell, Starts] = field(default_factory=dict[Cell, Starts])
    missing: dict[str, str] = field(default_factory=dict[str, str])

    def at(self, case: Case, server: str) -> Starts:
        return self.cells.setdefault(Cell(case, server), Starts())


def tables(results: Results) -> list[Table]:
    firsts = [
        (cell.case, cell.server, mid(starts.first_token_s, 2))
        for case in get_args(Case)
        for cell, starts in results.cells.items()
        if cell.case == case
    ]
    every = [
        Table("From the request to the first token", ("what is there", "server", "seconds"), firsts),
        _phases(results, COLD, REPLICA_COLD),
        _phases(results, RELOAD, MODEL_COLD),
        Table("Targets", ("figure", "got", "aim", "met"), [goal.row(".2f") for goal in goals(results)]),
    ]
    return [table for table in every if table.rows]


def goals(results: Results) -> list[Goal]:
    """What was aimed at, for whatever was measured. The peer is compared round by round."""
    found: list[Goal] = []
    for case, bound in AIMS_S.items():
        if (starts := results.cells.get(Cell(case, FLEET))) is not None:
            found.append(
                Goal(f"{case}: first token of {FLEET}, s", median(starts.first_token_s), bound, is_least=False)
            )
    ours, peer = (results.cells.get(Cell(COLD, server)) for server in (FLEET, PLAIN))
    if ours is not None and peer is not None:
        ratios = [theirs / own for own, theirs in zip(ours.first_token_s, peer.first_token_s, strict=True)]
        found.append(Goal(f"{COLD}: first token, {PLAIN} / {FLEET}", median(ratios), 1.0, is_least=True))
    return found


def write(results: Results, folder: Path, what: str) -> Path:
    """Write cold.md and cold.json; return the path of the first. `what` says what was measured."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = machine() | {"load average before the run": f"{results.load_before:.1f}"}
    cells = [asdict(cell) | asdict(starts) for cell, starts in results.cells.items()]
    body = {"machine": facts, "options": results.options, "seconds": results.seconds, "missing": results.missing}
    (folder / "cold.json").write_text(json.dumps({**body, "cells": cells}, indent=1) + "\n")
    command = f"python -m loadtests.cold {results.options}".strip()
    lines = ["# Cold starts", "", what.strip(), ""]
    lines += [f"`{command}`: {results.seconds:.0f} s, medians of interleaved rounds, and their range.", ""]
    lines += [*(f"- {key}: {value}" for key, value in facts.items()), ""]
    lines += [f"Missing: {name}. {why}\n" for name, why in results.missing.items()]
    lines += [table.section for table in tables(results)]
    path = folder / "cold.md"
    path.write_text("\n".join(lines))
    return path


def _phases(results: Results, case: Case, titles: Mapping[str, str]) -> Table:
    columns = {cell.server: starts for cell, starts in results.cells.items() if cell.case == case}
    rows: list[Row] = []
    for phase, title in titles.items():
        found = [starts.phases.get(phase, []) for starts in columns.values()]
        if any(found):
            rows.append((title, *(mid(seconds, 2) if seconds else "" for seconds in found)))
    return Table(f"{case.capitalize()}: phases, in seconds", ("phase", *columns), rows)
