"""Owns what the tests measured, as text: a row for each figure, and what was asked of it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

from loadtests.report import machine

FIGURES = "cluster.json"
ABOUT = """\
`python -m tests.cluster --out loadtests/reports`, which `make test-cluster` is with a report: the Helm chart as it is
rendered, on pods that are namespaces of one machine (a network, a process table and a root each, on one bridge). Ray's
own autoscaler for KubeRay runs in the head's pod; the part of the operator that makes and ends pods is the tests'. GPUs
are counted, not there; models are tiny and run on the CPU. So times are of Ray, Serve and this fleet on a small machine
that others shared: without the minutes in which a cloud brings up a machine, and without loading large weights.
"""


@dataclass(frozen=True, slots=True)
class Figure:
    scenario: str
    name: str
    got: float | str
    wanted: str = ""
    on: str = field(default_factory=lambda: date.today().isoformat())


@dataclass(slots=True)
class Figures:
    """In the order in which they were measured."""

    rows: list[Figure] = field(default_factory=list[Figure])

    def add(self, scenario: str, name: str, got: float | str, wanted: str = "") -> None:
        self.rows.append(Figure(scenario, name, round(got, 1) if isinstance(got, float) else got, wanted))
        print(f"\n  {scenario}: {name}: {self.rows[-1].got}", flush=True)  # noqa: T201

    def write(self, folder: Path) -> None:
        """cluster.md and cluster.json; nothing if nothing was measured. Scenarios that were not run stay."""
        if not self.rows:
            return
        folder.mkdir(parents=True, exist_ok=True)
        found = {row.scenario for row in self.rows}
        rows = [row for row in _written(folder / FIGURES) if row.scenario not in found] + self.rows
        facts = machine() | {"load average after the run": f"{os.getloadavg()[0]:.1f}"}
        text = json.dumps({"machine": facts, "figures": [asdict(row) for row in rows]}, indent=1)
        (folder / FIGURES).write_text(text + "\n")
        lines = ["# Cluster", "", ABOUT, *(f"- {key}: {value}" for key, value in facts.items())]
        for scenario in sorted({row.scenario for row in rows}):
            own = [row for row in rows if row.scenario == scenario]
            lines += [
                "",
                f"## {scenario}",
                "",
                f"Measured on {own[0].on}.",
                "",
                "| figure | got | asked |",
                "|---|---|---|",
            ]
            lines += [f"| {row.name} | {row.got} | {row.wanted} |" for row in own]
        (folder / "cluster.md").write_text("\n".join(lines) + "\n")


def _written(path: Path) -> list[Figure]:
    return [Figure(**row) for row in json.loads(path.read_text())["figures"]] if path.exists() else []
