"""Owns what the tests measured, as text: a row for each figure, and what was asked of it."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from loadtests.report import machine

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


@dataclass(slots=True)
class Figures:
    """In the order in which they were measured."""

    began: float
    rows: list[Figure] = field(default_factory=list[Figure])

    def add(self, scenario: str, name: str, got: float | str, wanted: str = "") -> None:
        self.rows.append(Figure(scenario, name, round(got, 1) if isinstance(got, float) else got, wanted))
        print(f"\n  {scenario}: {name}: {self.rows[-1].got}", flush=True)  # noqa: T201

    def write(self, folder: Path) -> None:
        """cluster.md and cluster.json; nothing if nothing was measured."""
        if not self.rows:
            return
        folder.mkdir(parents=True, exist_ok=True)
        minutes = (time.monotonic() - self.began) / 60
        facts = machine() | {"load average after the run": f"{os.getloadavg()[0]:.1f}"}
        rows = [asdict(row) for row in self.rows]
        (folder / "cluster.json").write_text(json.dumps({"machine": facts, "figures": rows}, indent=1) + "\n")
        lines = ["# Cluster", "", ABOUT, f"The run took {minutes:.0f} minutes.", ""]
        lines += [*(f"- {key}: {value}" for key, value in facts.items())]
        for scenario in dict.fromkeys(row.scenario for row in self.rows):
            lines += ["", f"## {scenario}", "", "| figure | got | asked |", "|---|---|---|"]
            lines += [f"| {row.name} | {row.got} | {row.wanted} |" for row in self.rows if row.scenario == scenario]
        (folder / "cluster.md").write_text("\n".join(lines) + "\n")
